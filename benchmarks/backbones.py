"""Each of the papers' backbones: a step plain, with MCL and with CORSD; and the memory of the two thirsty ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.harness import interleave, peak_memory, write
from benchmarks.training_step import TrainingStep
from classmates import models
from classmates.methods import CORSD, MCL, Baseline
from classmates.networks.building.complexity import count_parameters

BATCH = 12
SIZES = {"conv4": 84}  # pixels, where the papers' are not 32
THIRSTY = ("densenet40_12", "hcgnet_a1")  # they keep every layer's concatenation


def main(out: Path, quick: bool) -> None:
    names = ["resnet20", "conv4"] if quick else models.__all__
    rows = {name: row(name, rounds=1 if quick else 2) for name in names}
    write(
        pd.DataFrame.from_dict(rows, orient="index").rename_axis("name"),
        "backbones",
        out,
        f"A training step at batch {BATCH} in float32, 100 classes: milliseconds and peak MiB of the plain network "
        "(Baseline), and MCL's and CORSD's, with their defaults, as multiples of it. 3x32x32 images, "
        "84 pixels for conv4.",
    )
    checkpointed = {name: checkpointed_row(name, 8 if quick else 128) for name in THIRSTY}
    write(
        pd.DataFrame.from_dict(checkpointed, orient="index").rename_axis("name"),
        "backbones_memory",
        out,
        f"Peak MiB of a plain training step in float32 on {8 if quick else 128} images of 32x32 pixels, and with "
        "gradient checkpointing (set_grad_checkpointing).",
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


def checkpointed_row(name: str, batch_size: int) -> dict[str, float]:
    """What one backbone needs at a usual batch size, without and with gradient checkpointing."""
    step = TrainingStep(Baseline, name, batch_size)
    plain = peak_memory(step)
    step.method.student().set_grad_checkpointing()  # type: ignore[operator]
    return {"peak_mib": plain, "checkpointed_mib": peak_memory(step)}
