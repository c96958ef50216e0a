"""MCL's contrast: each way to take negatives against per-anchor gathering as published, in time, memory and noise."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ceilings import Ceilings, ceilings
from benchmarks.harness import device, flops, interleave, peak_memory, saved_bytes, write
from classmates._machine import has_bfloat16
from classmates.losses.contrast import Contrast, multi_view_contrast
from classmates.losses.negatives import (
    ClassOrder,
    Negatives,
    all_negatives,
    independent_negatives,
    shared_negatives,
)

PEERS, BATCH, DIMENSION, CLASSES, TEMPERATURE = 4, 64, 128, 100, 0.1
PAIRS = PEERS * (PEERS - 1)
MIB = 2**20


class Bank:
    """Banks of N samples in clusters by class, and a batch whose embeddings are near their own rows."""

    def __init__(self, samples: int, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        where = device()
        self.classes = ClassOrder(torch.arange(samples) % CLASSES).to(where)
        centres = torch.randn(CLASSES, DIMENSION, device=where)
        self.rows = torch.empty(PEERS, samples, DIMENSION, dtype=dtype, device=where)
        for rows in self.rows:
            rows.copy_(F.normalize(centres[self.classes.labels] + torch.randn(rows.shape, device=where), dim=-1))
        self.batch(torch.arange(BATCH, device=where))
        self.log_mean = self.contrast(shared_negatives, 4096).log_mean

    def batch(self, indices: Tensor) -> None:
        """Takes these samples as the batch."""
        self.labels = self.classes.labels[indices]
        self.positives = self.rows[:, indices].float()
        noise = 0.05 * torch.randn_like(self.positives)
        self.embeddings = F.normalize(self.positives + noise, dim=-1).requires_grad_()

    def contrast(self, draw: Callable[..., Negatives], k: int, *, lagged: bool = False) -> Contrast:
        negatives = draw(self.rows, self.classes, self.labels, k)
        normaliser = self.log_mean if lagged else "batch"
        return multi_view_contrast(
            self.embeddings, self.positives, negatives, temperature=TEMPERATURE, normaliser=normaliser
        )

    def gradient(self, draw: Callable[..., Negatives], k: int, *, lagged: bool = False) -> Tensor:
        return torch.autograd.grad(self.contrast(draw, k, lagged=lagged).loss, self.embeddings)[0]

    def gathered_gradient(self, indices: Tensor) -> Tensor:
        """The reference: for every ordered pair each anchor's rows are gathered, [B, K, d], and all is left to
        autograd, Eq. 6 to 8 as they are published. ``indices`` [B, K]: the negatives, drawn beforehand."""
        k, samples = indices.shape[1], self.rows.shape[1]
        noise = k / samples
        loss = torch.zeros((), device=indices.device)
        for a, b in permutations(range(PEERS), 2):
            gathered = self.rows[b].index_select(0, indices.flatten()).view(BATCH, k, DIMENSION)
            rows = torch.cat([self.positives[b][:, None], gathered], dim=1)
            e = (rows @ self.embeddings[a][:, :, None]).squeeze(-1).div(TEMPERATURE).exp()
            p = e / (samples * e.detach().mean())
            right = (p[:, :1] / (p[:, :1] + noise)).log().sum() + (noise / (p[:, 1:] + noise)).log().sum()
            loss = loss - right / BATCH
        return torch.autograd.grad(loss, self.embeddings)[0]


class Work(NamedTuple):
    """A candidate, and what it cannot do without: bytes to move, exponentials (each with a logarithm).

    dtype: of the products.
    """

    call: Callable[[], Tensor]
    dtype: torch.dtype
    moved: float
    exponentials: float


def main(out: Path, quick: bool) -> None:
    limits = ceilings()
    samples, ks, sizes = 50_000, (256, 4096, 16384), (10_000, 50_000, 200_000, 1_281_167)
    if quick:
        samples, ks, sizes = 5000, (256, 1024), (2000, 5000)
    compare(out, limits, samples, ks, rounds=2 if quick else 5)
    grow(out, limits, sizes, rounds=2 if quick else 3)
    noise(out, samples, draws=3 if quick else 16)


def compare(out: Path, limits: Ceilings, samples: int, ks: tuple[int, ...], *, rounds: int) -> None:
    banks = {"float32": Bank(samples), "bfloat16": Bank(samples, torch.bfloat16)}
    works = {}
    for k in ks:
        works[f"gathered, K={k}"] = gathered(banks["float32"], k)
    for k in ks:
        rows = BATCH * k * PEERS
        works[f"independent, K={k}, float32"] = fast(banks["float32"], independent_negatives, k, rows, gathers=3)
    for name, bank in banks.items():
        for k in ks:
            works[f"shared, K={k}, {name}, lagged"] = fast(
                bank, shared_negatives, k, PEERS * k, gathers=2, lagged=True
            )
        works[f"all, {name}, lagged"] = fast(bank, all_negatives, ks[-1], PEERS * samples, lagged=True)
        works[f"all, {name}"] = fast(bank, all_negatives, ks[-1], PEERS * samples)
    frame = table(works, limits, rounds=rounds, reference=f"gathered, K={ks[-1]}")
    note = (
        f"Value and gradient of the contrast of {PEERS} peers at batch {BATCH}, d = {DIMENSION}, N = {samples:,}. "
        "ratio: to the last gathered one; a gathered one gets its indices for nothing, the others draw theirs. "
        "lagged: the normaliser is known beforehand, so there is one pass. floor_ms: the counted products, bytes and "
        f"exponentials at what this machine was measured to do ({rates(limits)}). share_of_floor: floor over median."
    )
    write(frame, "contrast", out, note)


def grow(out: Path, limits: Ceilings, sizes: tuple[int, ...], *, rounds: int) -> None:
    """One size at a time, so that the largest bank has the memory for itself."""
    frames = []
    for samples in sizes:
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            if PEERS * samples * DIMENSION * dtype.itemsize > free_memory() / 4:
                print(f"N={samples:,} {name}: left out, the bank would take more than a quarter of the free memory")
                continue
            bank = Bank(samples, dtype)
            works = {
                f"all, N={samples}, {name}": fast(bank, all_negatives, 4096, PEERS * samples, lagged=True),
                f"shared, K=4096, N={samples}, {name}": fast(
                    bank, shared_negatives, 4096, PEERS * 4096, gathers=2, lagged=True
                ),
            }
            frame = table(works, limits, rounds=rounds)
            frames.append(frame.assign(bank_mib=bank.rows.nbytes / MIB))
    write(
        pd.concat(frames).drop(columns="ratio"),
        "contrast_growth",
        out,
        f"The contrast as the bank grows; {PEERS} peers, batch {BATCH}, d = {DIMENSION}, normaliser lagged.",
    )


def noise(out: Path, samples: int, *, draws: int) -> None:
    """How far drawing moves the gradient that reaches shared weights, the batch's sum, beside the batch itself."""
    bank = Bank(samples)
    rows = {}
    for name, draw, k in (
        ("independent", independent_negatives, 256),
        ("shared", shared_negatives, 256),
        ("shared", shared_negatives, 4096),
        ("shared", shared_negatives, 8192),
        ("shared", shared_negatives, 16384),
    ):
        # The weight of the negatives is K: the exact gradient is that of the same K.
        exact = bank.gradient(all_negatives, k, lagged=True)
        off = torch.stack([bank.gradient(draw, k, lagged=True) - exact for _ in range(draws)])
        rows[f"{name}, K={k}"] = {
            "of_anchors": (off.square().sum((1, 2, 3)).mean() / exact.square().sum()).sqrt().item(),
            "of_batch_sum": (off.sum(2).square().sum((1, 2)).mean() / exact.sum(1).square().sum()).sqrt().item(),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
    write(
        frame,
        "contrast_noise",
        out,
        f"Root mean square of what drawing adds to the gradient, as a share of it, over {draws} draws; N = "
        f"{samples:,}, {CLASSES} classes in clusters. of_batch_sum: of the sum over the batch, which is what shared "
        "weights receive.",
    )


def gathered(bank: Bank, k: int) -> Work:
    indices = bank.classes.draw(bank.labels, k)
    moved = 4 * PAIRS * BATCH * k * DIMENSION * 4  # rows read, written, read for the product and for its gradient
    return Work(lambda: bank.gathered_gradient(indices), torch.float32, moved, PAIRS * BATCH * k)


def fast(
    bank: Bank, draw: Callable[..., Negatives], k: int, rows: int, *, gathers: int = 0, lagged: bool = False
) -> Work:
    """rows: of all banks together. gathers: how often more than once they go through memory, to be picked out."""
    passes = gathers + (1 if lagged else 2)
    anchors = PEERS - 1 if draw is independent_negatives else (PEERS - 1) * BATCH
    moved = passes * rows * DIMENSION * bank.rows.itemsize
    dtype = bank.rows.dtype if has_bfloat16(device()) else torch.float32
    return Work(lambda: bank.gradient(draw, k, lagged=lagged), dtype, moved, rows * anchors)


def table(works: dict[str, Work], limits: Ceilings, *, rounds: int, reference: str | None = None) -> pd.DataFrame:
    """Times, memory, and what the times could be."""
    frame = interleave({name: work.call for name, work in works.items()}, rounds=rounds, reference=reference)
    for name, work in works.items():
        counted = flops(work.call)
        floor = limits.floor_ms(counted, work.dtype, work.moved, work.exponentials)
        frame.loc[name, "peak_mib"] = peak_memory(work.call)
        frame.loc[name, "saved_mib"] = saved_bytes(work.call) / MIB
        frame.loc[name, "gflop"] = counted / 1e9
        frame.loc[name, "moved_mb"] = work.moved / 1e6
        frame.loc[name, "floor_ms"] = floor
        frame.loc[name, "share_of_floor"] = floor / frame.loc[name, "median_ms"]
    return frame


def rates(limits: Ceilings) -> str:
    products = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {str(dtype)[6:]}" for dtype, rate in limits.flops.items())
    return f"{products}; {limits.bytes / 1e9:,.0f} GB/s read; {limits.elements / 1e9:.2g} G powers and logarithms/s"


def free_memory() -> int:
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
