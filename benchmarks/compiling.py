"""The passes over MCL's similarities as the package takes them, one after the other, and as one compiled kernel."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.contrast import BATCH, DIMENSION, PEERS, TEMPERATURE, Bank
from benchmarks.harness import device, interleave, write
from classmates._machine import has_bfloat16
from classmates.losses.contrast import LOG2_E, anchors_of, ordered_pairs, repulsion
from classmates.losses.negatives import Negatives, all_negatives

Sums = tuple[Tensor, Tensor, Tensor]
Passes = Callable[[Tensor, Tensor, Tensor], Sums]
HALVINGS = 2


def main(out: Path, quick: bool) -> None:
    samples, rounds = (5000, 2) if quick else (50_000, 9)
    dtype = torch.bfloat16 if has_bfloat16(device()) else torch.float32
    bank = Bank(samples, dtype)
    anchors, offset, negatives = work(bank)
    compiled = torch.compile(one_pass, dynamic=False)
    candidates = {
        "pass by pass": lambda: repulsion(anchors, offset, negatives, TEMPERATURE),
        "compiled": lambda: whole_bank(anchors, offset, negatives, compiled),
        "products alone": lambda: whole_bank(anchors, offset, negatives, no_pass),
    }
    write(
        interleave(candidates, rounds=rounds),
        "compiling",
        out,
        f"Value and gradient of the negatives' part of the contrast, {PEERS} peers, batch {BATCH}, d = {DIMENSION}, "
        f"N = {samples:,}, every negative, bank in {str(dtype)[6:]}: what comes between the two products of a block "
        "as the package does it, through torch.compile, and left out.",
    )


def work(bank: Bank) -> tuple[Tensor, Tensor, Negatives]:
    """Anchors, log K + log ē, and every negative of a bank's batch."""
    banks, partners = ordered_pairs(PEERS, device())
    offset = bank.log_mean[partners, banks][:, None] + math.log(len(bank.classes.labels))
    negatives = all_negatives(bank.rows, bank.classes, bank.labels, len(bank.classes.labels))
    return anchors_of(bank.embeddings.detach(), TEMPERATURE), offset, negatives


def one_pass(products: Tensor, mask: Tensor, offset: Tensor) -> Sums:
    """Weights of the rows, in the products' dtype, and of each anchor the sums of r and of log(1 + r)."""
    ratio = (products.float() - offset[..., None] + mask[:, None]).exp2()
    numbers = ratio  # as in ``sum_of_log1p``, and nothing in place, which a compiler would have to undo
    for _ in range(HALVINGS):
        first, second = numbers.tensor_split(2, dim=-1)
        numbers = first + second + first * second
    return (ratio / (1 + ratio)).to(products.dtype), ratio.sum(-1), numbers.log1p().sum(-1)


def no_pass(products: Tensor, mask: Tensor, offset: Tensor) -> Sums:
    """The products as weights, and no sums."""
    return products, products.new_zeros(()), products.new_zeros(())


@torch.no_grad()
def whole_bank(anchors: Tensor, offset: Tensor, negatives: Negatives, passes: Passes) -> Sums:
    """What ``repulsion`` returns, by any implementation of the passes, for negatives that all samples share."""
    offset, value, ratio_sum = offset * LOG2_E, torch.zeros_like(anchors[..., 0]), torch.zeros_like(anchors[..., 0])
    gradient = torch.zeros_like(anchors).flatten(1, 2)
    queries = (anchors * (LOG2_E / TEMPERATURE)).to(negatives.rows.dtype).flatten(1, 2)
    for block in negatives.blocks():
        rows = block.rows[:, 0]
        products = block.scratch.take("products", (*queries.shape[:2], rows.shape[1]), rows.dtype)
        torch.bmm(queries, rows.mT, out=products)
        weights, ratios, logarithms = passes(products.view(*value.shape, -1), block.mask, offset)
        gradient += weights.flatten(1, 2) @ rows
        ratio_sum += ratios
        value += logarithms
    count = negatives.counts.to(anchors.dtype)[:, None]
    return value / count, ratio_sum / count, gradient.view_as(anchors) / (TEMPERATURE * count[..., None])
