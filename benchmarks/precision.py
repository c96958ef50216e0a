"""Precision, memory format and torch.compile on and off, on a usual and on a very small network."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from benchmarks.harness import interleave, write
from benchmarks.training_step import TrainingStep
from classmates.methods import Baseline
from classmates.training.acceleration import FORMATS


def main(out: Path, quick: bool) -> None:
    for model, batch_size, size in (("resnet20", 24 if quick else 64, 32), ("resnet8", 24 if quick else 96, 8)):
        steps = {}
        for precision, memory_format, compiled in product(("32-true", "bf16-mixed"), FORMATS, (False, True)):
            if quick and compiled:  # half a minute each
                continue
            words = f"{precision}, {memory_format}" + (", compiled" if compiled else "")
            steps[words] = TrainingStep(
                Baseline,
                model,
                batch_size,
                precision=precision,
                memory_format=memory_format,
                compiled=compiled,
                size=size,
            )
        write(
            interleave(steps, rounds=2 if quick else 7),
            f"precision_{model}",
            out,
            f"A step of the plain {model} on 3x{size}x{size} images at batch {batch_size}, by precision, memory "
            "format and torch.compile; the first step, which compiles, is not in the times.",
        )
