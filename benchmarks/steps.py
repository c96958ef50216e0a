"""A whole training step of every method, and of MCL with every negative, against the plain network's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import write
from benchmarks.training_step import METHODS, WITHOUT_BFLOAT16, TrainingStep, has_bfloat16, measure
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
    every = partial(MCL, negatives="all", normaliser="lagged", bank_dtype="bfloat16" if has_bfloat16() else "float32")
    fast: Any = {"memory_format": "channels_last", "precision": "bf16-mixed" if has_bfloat16() else "32-true"}
    steps = {
        "plain float32": TrainingStep(Baseline, model, batch_size),
        "plain, fastest": TrainingStep(Baseline, model, batch_size, **fast),
        "MCL, every negative, float32": TrainingStep(
            partial(MCL, negatives="all", normaliser="lagged"), model, batch_size
        ),
        "MCL, every negative, fastest": TrainingStep(every, model, batch_size, **fast),
        "MCL, 256 independent negatives, float32": TrainingStep(
            partial(MCL, negatives="independent"), model, batch_size
        ),
    }
    write(
        measure(steps, rounds=rounds),
        "mcl_step",
        out,
        f"MCL with four peers on {model} at batch {batch_size}, N = 50,000. Fastest: channels-last, and bfloat16 for "
        f"networks and banks where the device has it.{WITHOUT_BFLOAT16}",
    )
