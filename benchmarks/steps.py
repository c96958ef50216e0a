"""A whole training step of every method, and of MCL with every negative, against the plain network's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import write
from benchmarks.training_step import METHODS, WITHOUT_BFLOAT16, TrainingStep, measure
from classmates.methods import MCL, Baseline


def main(out: Path, quick: bool) -> None:
    model, batch_size, rounds = ("resnet8", 24, 2) if quick else ("resnet20", 96, 7)
    steps = {method.__name__: TrainingStep(method, model, batch_size) for method in METHODS}
    write(
        measure(steps, rounds=rounds, reference="Baseline"),
        "steps",
        out,
        f"One step of every method with its defaults on {model} at batch {batch_size}, 3x32x32 images, N = 50,000, "
        "float32. Ratios are to Baseline; teachers are of the same architecture.",
    )
    every_negative(out, quick)


def every_negative(out: Path, quick: bool) -> None:
    """The whole step of MCL against one plain network in float32, which is what its memory may not exceed."""
    model, batch_size, rounds = ("resnet8", 24, 2) if quick else ("resnet32", 64, 7)
    every = partial(MCL, negatives="all", normaliser="lagged")
    halved = partial(every, bank_dtype="bfloat16")
    last: Any = {"memory_format": "channels_last"}
    fast: Any = {**last, "precision": "bf16-mixed"}
    steps = {
        "plain, float32": TrainingStep(Baseline, model, batch_size),
        "plain, float32, channels-last": TrainingStep(Baseline, model, batch_size, **last),
        "plain, bfloat16, channels-last": TrainingStep(Baseline, model, batch_size, **fast),
        "MCL, float32": TrainingStep(every, model, batch_size),
        "MCL, float32, channels-last": TrainingStep(every, model, batch_size, **last),
        "MCL, float32, channels-last, trunk recomputed": TrainingStep(
            every, model, batch_size, **last, recompute="shared"
        ),
        "MCL, bfloat16, channels-last": TrainingStep(halved, model, batch_size, **fast),
        "MCL, bfloat16, channels-last, trunk recomputed": TrainingStep(
            halved, model, batch_size, **fast, recompute="shared"
        ),
        "MCL, float32, 256 independent negatives": TrainingStep(
            partial(MCL, negatives="independent"), model, batch_size
        ),
    }
    write(
        measure(steps, rounds=rounds),
        "mcl_step",
        out,
        f"MCL with four peers on {model} at batch {batch_size}, N = 50,000, every negative unless said, the banks in "
        f"the networks' precision.{WITHOUT_BFLOAT16}",
    )
