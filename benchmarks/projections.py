"""CORSD's three projections: what each costs on top of the plain network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from benchmarks.harness import write
from benchmarks.training_step import WITHOUT_BFLOAT16, Make, TrainingStep, measure
from classmates.methods import CORSD, Baseline
from classmates.networks.complexity import count_parameters
from classmates.networks.pairs import Projection


def main(out: Path, quick: bool) -> None:
    model, batch_size, rounds = ("resnet20", 24, 2) if quick else ("resnet18_cifar", 129, 5)
    settings: dict[str, Any] = {
        "float32": {},
        "float32, channels-last": {"memory_format": "channels_last"},
        "bfloat16, channels-last": {"memory_format": "channels_last", "precision": "bf16-mixed"},
    }
    frames = []
    for words, options in settings.items():
        makes: dict[str, Make] = {
            "Baseline": Baseline,
            **{form: partial(CORSD, projection=form) for form in get_args(Projection)},
        }
        steps = {name: TrainingStep(make, model, batch_size, **options) for name, make in makes.items()}
        frame = measure(steps, rounds=rounds)
        frame.insert(0, "parameters", [count_parameters(step.method) for step in steps.values()])
        frame.index = pd.Index([f"{name}, {words}" for name in frame.index], name="name")
        frames.append(frame)
    write(
        pd.concat(frames),
        "projections",
        out,
        f"A step of CORSD on {model} at batch {batch_size}, 3x32x32 images, by the relation networks' projection. "
        f"Ratios are to Baseline in the same precision and memory format.{WITHOUT_BFLOAT16}",
    )
