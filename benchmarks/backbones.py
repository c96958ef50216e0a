"""Each of the papers' backbones: a training step plain, with MCL and with CORSD."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.harness import interleave, peak_memory, write
from benchmarks.training_step import TrainingStep
from classmates import models
from classmates.methods import CORSD, MCL, Baseline
from classmates.networks.complexity import count_parameters

BATCH = 12
SIZES = {"conv4": 84}  # pixels, where the papers' are not 32


def main(out: Path, quick: bool) -> None:
    names = ["resnet20", "conv4"] if quick else models.__all__
    rows = {name: row(name, rounds=1 if quick else 3) for name in names}
    write(
        pd.DataFrame.from_dict(rows, orient="index").rename_axis("name"),
        "backbones",
        out,
        f"A training step at batch {BATCH} in float32, 100 classes: milliseconds and peak MiB of the plain network "
        "(Baseline), and MCL's and CORSD's, with their defaults, as multiples of it. 3x32x32 images, "
        "84 pixels for conv4.",
    )


def row(name: str, rounds: int) -> dict[str, float]:
    """One backbone's figures."""
    size = SIZES.get(name, 32)
    steps = {method.__name__: TrainingStep(method, name, BATCH, size=size) for method in (Baseline, MCL, CORSD)}
    times = interleave(steps, rounds=rounds)
    memory = {method: peak_memory(step) for method, step in steps.items()}
    figures = {
        "million_parameters": count_parameters(steps["Baseline"].method) / 1e6,
        "baseline_ms": times["median_ms"]["Baseline"],
        "baseline_mib": memory["Baseline"],
    }
    for method in ("MCL", "CORSD"):
        figures[f"{method}_time"] = times["ratio"][method]
        figures[f"{method}_memory"] = memory[method] / memory["Baseline"]
    return figures
