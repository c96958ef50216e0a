"""Random numbers that depend only on what they are for, never on who drew before: the ground of exact resume."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from classmates.errors import UserError


def stream_seed(purpose: str, *numbers: int) -> int:
    """Return a 32-bit seed for a purpose and its numbers, always as many for one purpose: ``("order", seed, epoch)``.

    Raises:
        UserError: a number is negative.
    """
    if min(numbers, default=0) < 0:
        raise UserError(f"the seed of '{purpose}' is {min(numbers)}; give one that is 0 or more")
    key = np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers])
    return int(key.generate_state(1)[0])


def generator(purpose: str, *numbers: int) -> torch.Generator:
    """Return a purpose's own generator for these numbers, on the CPU: the same draws for every device."""
    return torch.Generator().manual_seed(stream_seed(purpose, *numbers))


def of_view(purpose: str, view: int) -> str:
    """Return the purpose of the draws for one of several views of the images; the first view's is the plain one."""
    return f"{purpose} of view {view}" if view else purpose


def shuffled_by_class(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put the samples in the order of their classes, shuffled within each class.

    labels: [N], class numbers from 0. Returns the order, [N] sample indices, and for each of its places the rank of
    that sample within its class, [N], from 0.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    return order, torch.arange(len(labels)) - starts[labels[order]]
