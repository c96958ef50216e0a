"""Splits and samplers on large data sets: time, and memory of the whole process."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.harness import write
from classmates._memory import highest_memory
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import (
    ClassPairs,
    ClassUniform,
    Sampling,
    Shuffled,
    Triplets,
)
from classmates.data.splits import stratified_split, stratified_subset

CLASSES = 1000
SAMPLES = (1_300_000, 14_000_000)
BATCH = 264  # in whole groups of one, two, three and eight


def split(labels: Tensor) -> None:
    stratified_split(labels, 0.1, seed=0)


def subset(labels: Tensor) -> None:
    stratified_subset(labels, len(labels) // 2, seed=0)


def epoch(sampling: Sampling, labels: Tensor) -> None:
    """Make a sampler and every batch of one epoch, as indices."""
    for _ in EpochSampler(sampling, labels, BATCH):
        pass


TASKS: dict[str, Callable[[Tensor], None]] = {
    "stratified_split": split,
    "stratified_subset": subset,
    **{
        type(sampling).__name__: partial(epoch, sampling)
        for sampling in (Shuffled(), Triplets(), ClassPairs(), ClassUniform())
    },
    "TripletsWithReplacement": partial(epoch, Triplets(disjoint=False)),
}


def main(out: Path, quick: bool) -> None:
    rows = []
    # Each in a process of its own, so that the highest memory is that of the one task.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        for samples in (13_000, 140_000) if quick else SAMPLES:
            for name in TASKS:
                seconds, mib = processes.submit(measure, name, samples).result()
                rows.append({"name": name, "samples": samples, "seconds": seconds, "peak_mib": mib})
    write(
        pd.DataFrame(rows).set_index("name"),
        "scale",
        out,
        f"Labels of {CLASSES:,} classes, drawn at random. A sampler's time is that of making it and of going through "
        f"all batches of {BATCH} of an epoch, as lists of indices; peak_mib is what the process had at most, over "
        "what it had with the labels loaded. One thread.",
    )


def measure(name: str, samples: int) -> tuple[float, float]:
    """Seconds, and MiB that the process grew by at most."""
    torch.set_num_threads(1)
    labels = torch.randint(CLASSES, (samples,), generator=torch.Generator().manual_seed(0))
    TASKS[name](torch.arange(10_000) % CLASSES)  # what is only made once
    before = highest_memory()
    began = time.perf_counter()
    TASKS[name](labels)
    return time.perf_counter() - began, highest_memory() - before
