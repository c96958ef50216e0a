"""Divergence: rates at which weights must grow without bound, and weights that have grown beyond use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Adam, AdamW, Optimizer

from classmates.errors import NonFiniteLoss, UserError

LARGEST = 1e6
"""The largest weight that is believed: trained ones are below some hundreds. Statistics of maps may be its square."""
FAR = 100
"""A rate of more than so many times what is usual is noted."""
USUAL = {"SGD": 0.1}
"""Rates by optimiser where its default is not what is used: what the papers train with."""


def check_weights(parameters: Mapping[str, Tensor], statistics: Mapping[str, Tensor], step: int) -> None:
    """Raise NonFiniteLoss if a weight is not finite or beyond ``LARGEST``, a statistic beyond its square.

    Waits for the device, once.

    Args:
        parameters: by name.
        statistics: buffers of the networks by name, such as BatchNorm's; those that are not floating are left out.
        step: the number of steps so far, for the message.
    """
    floating = {name: value for name, value in statistics.items() if value.is_floating_point()}
    groups = ((parameters, LARGEST), (floating, LARGEST**2))
    within = [largest(list(tensors.values())) <= limit for tensors, limit in groups if tensors]  # false for NaN too
    if not within or bool(torch.stack(within).all()):
        return
    for tensors, limit in groups:
        for name, value in tensors.items():
            found = float(largest([value]))
            if not found <= limit:
                raise NonFiniteLoss(
                    f"training has diverged by step {step}: the largest number in '{name}' is {found:.3g}. Training "
                    "stopped before a checkpoint was made of it. A lower --lr or --gradient_clip 1 may help"
                )


@torch.no_grad()
def largest(tensors: list[Tensor]) -> Tensor:
    """Return the largest absolute value, a scalar on the device; NaN where there is one."""
    return get_total_norm([tensor.detach() for tensor in tensors], norm_type=float("inf"))


def check_rate(optimizer: Optimizer) -> list[str]:
    """Refuse rates at which weight decay alone makes weights grow; return a note on rates far above what is usual.

    Weight decay is the only force on a weight whose gradient is 0, and the only one along the weights of a layer
    before a BatchNorm, whose gradient is at a right angle to them. What an optimiser does to w under it alone is a
    linear recurrence, which is stable only below the rate of ``highest_rate``: above, weights grow in every step,
    whatever the data are.

    Raises:
        UserError: such a rate, with the highest one that is stable.
    """
    notes, name = [], type(optimizer).__name__
    for group in optimizer.param_groups:
        rate = peak_rate(group)
        bound = highest_rate(optimizer, group)
        if bound is not None and rate >= bound:
            raise UserError(
                f"lr={rate:g}: with weight decay {group['weight_decay']:g}, every step of {name} makes weights "
                f"larger from a rate of {bound:.4g} on, so that training must diverge: give a lower --lr"
            )
        usual = usual_rate(type(optimizer))
        if usual is not None and rate > FAR * usual:
            notes.append(
                f"lr={rate:g} is {rate / usual:,.0f} times what is usual with {name} ({usual:g}): training "
                "will most likely diverge, or end no better than chance"
            )
    return notes[:1]


def highest_rate(optimizer: Optimizer, group: Mapping[str, Any]) -> float | None:
    """Return the rate from which on weight decay λ makes weights grow; None where it has no part, or is not known.

    SGD with momentum μ: 2(1 + μ)/λ, with Nesterov's 2(1 + μ)/((1 + 2μ)λ). Decoupled decay (AdamW): 2/λ.
    """
    decay = float(group.get("weight_decay") or 0)
    if decay <= 0 or group.get("dampening"):
        return None
    if isinstance(optimizer, SGD):
        momentum = float(group["momentum"])
        return 2 * (1 + momentum) / (1 + 2 * momentum * group["nesterov"]) / decay
    decoupled = isinstance(optimizer, AdamW) or (isinstance(optimizer, Adam) and group["decoupled_weight_decay"])
    return 2 / decay if decoupled else None


def peak_rate(group: Mapping[str, Any]) -> float:
    """Return the highest rate of a group over its schedule."""
    return max(float(group[name]) for name in ("lr", "initial_lr", "max_lr") if name in group)


def usual_rate(kind: type[Optimizer]) -> float | None:
    """Return the rate that is usual with an optimiser: see ``USUAL``, or else its default, where it has one."""
    parameter = inspect.signature(kind).parameters.get("lr")
    default = USUAL.get(kind.__name__, None if parameter is None else parameter.default)
    return float(default) if isinstance(default, int | float) and default > 0 else None
