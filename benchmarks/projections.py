"""What CORSD's relation networks cost on top of the plain network, by projection, and by width."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from benchmarks.harness import write
from benchmarks.training_step import WITHOUT_BFLOAT16, Make, TrainingStep, measure
from classmates.methods import CORSD, Baseline
from classmates.networks.building.complexity import count_parameters
from classmates.networks.heads.pair_projection import Projection

FORMS: dict[str, Make] = {form: partial(CORSD, projection=form) for form in get_args(Projection)}
NARROW: dict[str, Make] = {
    f"separable, width {width}": partial(CORSD, projection="separable", width=width) for width in (0.5, 0.25)
}
LAST = {"memory_format": "channels_last"}


def main(out: Path, quick: bool) -> None:
    model, batch_size, rounds = ("resnet20", 24, 2) if quick else ("resnet18_cifar", 129, 5)
    settings: dict[str, dict[str, Any]] = {
        "float32": {},
        "float32, channels-last": LAST,
        "bfloat16, channels-last": {**LAST, "precision": "bf16-mixed"},
    }
    write(
        pd.concat(costs(FORMS, model, batch_size, rounds, words, options) for words, options in settings.items()),
        "projections",
        out,
        f"A step of CORSD on {model} at batch {batch_size}, 3x32x32 images, by the relation networks' projection. "
        f"Ratios are to Baseline in the same precision and memory format.{WITHOUT_BFLOAT16}",
    )
    model, batch_size = ("resnet8", 12) if quick else ("resnet50_cifar", 12)
    write(
        costs({**FORMS, **NARROW}, model, batch_size, rounds, "float32, channels-last", LAST),
        "projections_bottleneck",
        out,
        f"A step of CORSD on {model} at batch {batch_size}, 3x32x32 images, by the relation networks' projection and "
        "width. Ratios are to Baseline.",
    )


def costs(
    makes: Mapping[str, Make], model: str, batch_size: int, rounds: int, words: str, options: dict[str, Any]
) -> pd.DataFrame:
    """What a step of each costs under one precision and memory format, Baseline's first."""
    steps = {
        name: TrainingStep(make, model, batch_size, **options)
        for name, make in {"Baseline": Baseline, **makes}.items()
    }
    frame = measure(steps, rounds=rounds)
    frame.insert(0, "parameters", [count_parameters(step.method) for step in steps.values()])
    frame.index = pd.Index([f"{name}, {words}" for name in frame.index], name="name")
    return frame
