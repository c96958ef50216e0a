"""What the trainer costs a step, over a bare loop on the same batches: hooks, term meter, history, progress bar."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.callbacks import Callback
from torch import nn

from benchmarks.harness import interleave, write
from benchmarks.training_step import TrainingStep
from classmates import train
from classmates.contracts import DataSpec
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.loading import load
from classmates.methods import Baseline
from classmates.training.optimisation import make_optimizer

BATCH = 8


class Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def main(out: Path, quick: bool) -> None:
    epochs, rounds = (1, 2) if quick else (3, 9)
    taken = [(trainer_step(epochs), bare_step(epochs)) for _ in range(rounds)]
    trainer, bare = (statistics.median(column) for column in zip(*taken, strict=True))
    overhead = statistics.median(whole - plain for whole, plain in taken)
    resnet = interleave({"ResNet-20": TrainingStep(Baseline, "resnet20", 128)}, rounds=rounds)["median_ms"].item()
    rows = {
        "trainer, tiny network": trainer,
        "bare loop, tiny network": bare,
        "overhead a step": overhead,
        "ResNet-20 step, batch 128": resnet,
        "overhead, % of that step": 100 * overhead / resnet,
    }
    write(
        pd.DataFrame({"ms": rows}).rename_axis("name"),
        "trainer",
        out,
        "What the trainer adds to a step, measured where a step is next to nothing, so that "
        "the difference is no difference of large numbers; it does not depend on the network.",
    )


def tiny_network() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def trainer_step(epochs: int) -> float:
    """Milliseconds from the end of one step to the end of the next, in ``train``; the median."""
    clock = Clock()
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(quiet), redirect_stderr(quiet):
        train(
            model=tiny_network(),
            batch_size=BATCH,
            epochs=epochs,
            accelerator="cpu",
            report=False,
            out=folder,
            callbacks=[clock],
        )
    return between(clock.ends)


def bare_step(epochs: int) -> float:
    """The same in the shortest loop there is."""
    images = load("digits", val_fraction=0.1, seed=0)
    method = Baseline(tiny_network(), DataSpec(images.num_classes, images.train.labels, images.input_shape))
    optimizer = make_optimizer("SGD", method.parameters(), 0.05, {})
    loader = train_loader(images, EpochSampler(method.sampling, images.train.labels, BATCH), Augmentation(), seed=0)
    ends = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            method(batch).total.backward()
            optimizer.step()
            ends.append(time.perf_counter())
    return between(ends)


def between(ends: list[float]) -> float:
    return 1000 * statistics.median(later - earlier for earlier, later in pairwise(ends))
