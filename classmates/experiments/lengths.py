"""Runs made longer or shorter: what they count in epochs follows, and so do their schedule and their method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from classmates.methods.lengths import scaled_lengths
from classmates.methods.spec import MethodSpec
from classmates.training.config import RunConfig

OF_TRAIN = ("freeze_epochs", "patience")
"""Arguments of ``train`` that are numbers of epochs, and whole."""
SCHEDULE = ("milestones", "step_size", "T_max", "T_0", "total_iters", "total_steps")
"""Arguments of PyTorch's schedules that are numbers of epochs or steps."""


def at_length(settings: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return a run's settings, plain ones or those of a configuration, with another number of epochs."""
    factor = epochs / settings["epochs"]
    method = MethodSpec.of(settings["method"])
    assert method is not None  # settings name a class
    return {
        **scaled_lengths(settings, OF_TRAIN, factor),
        "epochs": epochs,
        "warmup_epochs": without_dust(settings.get("warmup_epochs", 0) * factor),
        "schedule_args": scaled_lengths(settings["schedule_args"] or {}, SCHEDULE, factor) or None,
        "method": method.scaled(factor),
    }


def without_dust(length: float) -> float:
    """Return a length without the last digits that arithmetic has left: 0.9 for 3 times 0.3, 0.8999999999999999.

    Any other stays as it is to the last bit, a third of an epoch too: a run's identity is made of it.
    """
    short = round(length, 6)
    return short if math.isclose(length, short, rel_tol=1e-12) else length


def times_longer(config: RunConfig, times: float) -> RunConfig:
    """Return a configuration with so many times its epochs, rounded to 1 or more."""
    return config if times == 1 else replace(config, **at_length(vars(config), max(1, round(times * config.epochs))))
