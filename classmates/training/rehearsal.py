"""An optimiser and its schedules tried out on a few numbers, so that what cannot work is told before a run begins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from classmates.errors import UserError

SHAPES = ((3,), (2, 3), (2, 3, 1, 1))
"""Those of the stand-ins: a bias, the weights of a linear layer and of a convolution."""
TRIED = 100
"""So many changes of the rate are tried from its beginning, and the last one."""


def stand_ins() -> list[nn.Parameter]:
    """Return a few parameters with gradients."""
    made = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    for parameter in made:
        parameter.grad = torch.ones_like(parameter)
    return made


def rehearse(
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
    schedules: Callable[[Optimizer], Sequence[tuple[LRScheduler, str]]],
    *,
    name: str,
    schedule: str,
    lengths: dict[str, int],
) -> None:
    """Take a step of an optimiser on stand-ins, and change its rate as often as a run would.

    Args:
        optimizer: makes it over parameters.
        schedules: makes the schedules of an optimiser, each with what it counts in ("epoch" or "step").
        name: of the optimiser.
        schedule: the name of the first of the schedules.
        lengths: how many epochs and steps the run has.

    Raises:
        UserError: the optimiser needs more than a loss's gradients, or a schedule fails or gives a rate that is none.
    """
    made = optimizer(stand_ins())
    try:
        made.step()
    except Exception as error:  # whatever it needs that a training step does not give it
        raise UserError(
            f"optimizer {name} cannot be used here: {' '.join(str(error).split())}; training gives an optimizer one "
            "step after each backward pass, with gradients of every parameter: choose another, such as SGD or AdamW"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an order of calls that is meant here
        for scheduler, unit in schedules(made):
            follow(scheduler, schedule, lengths[unit], unit)


def follow(scheduler: LRScheduler, name: str, length: int, unit: str) -> None:
    """Go through a schedule, its beginning and its end; UserError where it fails or gives a rate that is none."""
    for place in [*range(1, min(length, TRIED)), length]:  # the rate changes after each
        try:
            scheduler.last_epoch = place - 1
            scheduler.step()
            rates = [float(group["lr"]) for group in scheduler.optimizer.param_groups]
        except Exception as error:  # whatever its arguments make of the formula
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"schedule {name} fails after {unit} {place} of {length} ({reason}): see schedule_args"
            ) from error
        if not all(rate >= 0 and math.isfinite(rate) for rate in rates):
            raise UserError(
                f"schedule {name} makes the rate {rates[0]} after {unit} {place} of {length}: see schedule_args"
            )
