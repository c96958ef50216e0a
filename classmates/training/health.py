"""Warnings about a run's student by the run's own numbers, in sentences with what to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from classmates.tasks.protocol import Metric, ProtocolRecord

Rows = Sequence[Mapping[str, float]]
"""The table of epochs, as ``metrics.csv`` has it: one mapping an epoch."""

IF_USELESS = (
    "Try a lower --lr, more --epochs, or published weights (--pretrained true); `classmates data` shows whether the "
    "labels are right"
)
"""What to do about a student that is at chance."""


class Health(NamedTuple):
    """warnings: sentences. useless: whether the student is no better than the commonest answer."""

    warnings: list[str]
    useless: bool


def examine(
    history: Rows, student: Metric, chance: float, protocol: ProtocolRecord, without_gradient: Iterable[str] = ()
) -> Health:
    """Look for what makes a trained student worthless or doubtful.

    Args:
        history: the table of epochs.
        student: the student's headline, on test images or, without any, on validation images.
        chance: the headline of always giving the commonest answer.
        protocol: how the networks were judged.
        without_gradient: the terms of the loss that nothing could learn from.
    """
    at_chance = protocol.at_chance(student, chance)
    warnings = [] if at_chance is None else [f"the student is useless: {at_chance}. {IF_USELESS}"]
    warnings += rising_losses(history, protocol)
    warnings += zero_terms(history)
    warnings += [
        f"the loss term '{name}' has no gradient: no part of the networks learns from it" for name in without_gradient
    ]
    return Health(warnings, at_chance is not None)


def rising_losses(history: Rows, protocol: ProtocolRecord) -> list[str]:
    """Name the student's losses on validation images that ended above where they were after the first epoch."""
    found = []
    for name, how in protocol.metrics.items():
        column = f"val/student/{name}"
        if how.better == "less" and history and column in history[0] and len(history) > 1:
            first, last = history[0][column], history[-1][column]
            if not last <= first:
                found.append(
                    f"the student's {how.title} on validation images rose from {how.text(first)} to "
                    f"{how.text(last)}: it has diverged, or learnt the training images by heart. Try a lower --lr, "
                    "fewer --epochs or stronger augmentation"
                )
    return found


def zero_terms(history: Rows) -> list[str]:
    """Name the terms of the loss that were exactly 0 in the last epoch."""
    last = history[-1] if history else {}
    return [
        f"the loss term '{name}' was exactly 0 in the last epoch: it taught nothing"
        for column, value in last.items()
        if value == 0 and (name := column.removeprefix("train/")) != column and not name.endswith("/weighted")
    ]
