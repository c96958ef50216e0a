"""One training step of any method, with all that it needs: a network, a batch of its own kind, a teacher."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import pandas as pd
import timm
import torch
from torch import nn

import classmates.models  # noqa: F401  (registers the papers' backbones)
from benchmarks.harness import counts, device, interleave, peak_memory, saved_bytes
from classmates import methods
from classmates._machine import has_bfloat16
from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.methods import Method
from classmates.methods.teacher_method import TeacherMethod
from classmates.networks.peers.peers import Recompute
from classmates.training.acceleration import FORMATS
from classmates.training.faster_convolutions import faster_convolutions
from classmates.training.optimisation import make_optimizer

Make = Callable[[nn.Module, DataSpec], Method]
CLASSES, SAMPLES = 100, 50_000
EXPORTED = [getattr(methods, name) for name in methods.__all__]
METHODS = [one for one in EXPORTED if issubclass(one, Method) and not inspect.isabstract(one)]


class TrainingStep:
    """Called, it does a whole step: forward, losses, backward, update. The batch is noise and always the same.

    Args:
        make: the method, or a partial of it.
        model: a name of timm's or of classmates'.
        batch_size: one that the method's sampler can make.
        precision: "32-true" or "bf16-mixed".
        memory_format: "contiguous" or "channels_last".
        compiled: torch.compile for the networks.
        recompute: which parts run again in backward.
        faster: convolutions are those of training; else as PyTorch has them.
        size: pixels of the images.
        samples: N, the training images there are supposed to be.
    """

    def __init__(
        self,
        make: Make,
        model: str,
        batch_size: int,
        *,
        precision: str = "32-true",
        memory_format: str = "contiguous",
        compiled: bool = False,
        recompute: Recompute = "nothing",
        faster: bool = True,
        size: int = 32,
        samples: int = SAMPLES,
    ) -> None:
        torch.manual_seed(0)
        labels = torch.arange(samples) % CLASSES
        shape = (3, size, size)
        data = DataSpec(CLASSES, labels, shape)
        network = partial(timm.create_model, model, num_classes=CLASSES)
        complete: Any = make
        if inspect.isclass(make) and issubclass(make, TeacherMethod) and make.needs_teacher:
            complete = partial(complete, teacher=network())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what methods note about the data
            method: Method = complete(network(), data)
        self.method = method.to(device()).to(memory_format=FORMATS[memory_format])
        if compiled:
            self.method.networks.compile_parts()
        self.method.networks.recompute_parts(recompute)
        self.optimizer = make_optimizer("SGD", self.method.parameters(), 0.001, {})
        indices = torch.tensor(next(iter(EpochSampler(method.sampling, labels, batch_size))))
        views = tuple(
            torch.randn(len(indices), *shape).to(device(), memory_format=FORMATS[memory_format])
            for _ in range(method.views)
        )
        batch = Batch(views[-1], labels[indices].to(device()), indices.to(device()))
        self.batch = batch._replace(views=views) if method.views > 1 else batch
        self.precision = precision
        self.convolutions = faster_convolutions(self.method, device().type, precision) if faster else nullcontext()
        self.autocast = partial(torch.autocast, device().type, torch.bfloat16, enabled=precision == "bf16-mixed")

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with self.convolutions:
            with self.autocast():
                total = self.method(self.batch).total
            total.backward()
        self.optimizer.step()


def measure(steps: Mapping[str, TrainingStep], *, rounds: int, reference: str | None = None) -> pd.DataFrame:
    """Times, as ``interleave`` has them, and what is counted: memory in MiB, operations, synchronisations.

    Steps in bfloat16 on a device that has no arithmetic for it are counted and not timed. ``peak_mib`` is what is
    live at most over what is there between steps, ``saved_mib`` what is kept for backward, ``peak_ratio`` and
    ``saved_ratio`` are relative to the reference.
    """
    timed = {name: step for name, step in steps.items() if step.precision == "32-true" or has_bfloat16(device())}
    times = interleave(timed, rounds=rounds, reference=reference) if timed else pd.DataFrame()
    frame = times.reindex(list(steps)).rename_axis("name")
    for name in steps.keys() - timed.keys():
        steps[name]()  # its first call makes what stays, as those of the others have
    base = reference or next(iter(steps))
    frame["peak_mib"] = [peak_memory(step) for step in steps.values()]
    frame["peak_ratio"] = frame["peak_mib"] / frame["peak_mib"][base]
    frame["saved_mib"] = [saved_bytes(step) / 2**20 for step in steps.values()]
    frame["saved_ratio"] = frame["saved_mib"] / frame["saved_mib"][base]
    counted = [counts(step) for step in steps.values()]
    frame["operations"] = [each.operations for each in counted]
    frame["synchronisations"] = [each.synchronisations for each in counted]
    return frame


WITHOUT_BFLOAT16 = (
    ""
    if has_bfloat16(device())
    else " This device has no bfloat16 arithmetic: steps in it are counted (memory, operations) and not timed."
)
