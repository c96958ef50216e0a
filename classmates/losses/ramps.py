"""Ramps: factors on the weight of a term that change from epoch to epoch, as functions of (epoch, epochs).

epoch: t, counted from 0. epochs: E, how many training has. A method gives them by term to ``Method``; further
parameters are bound with ``functools.partial``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

Ramp = Callable[[int, int], float]
"""ramp(epoch, epochs) → the factor on the weight of a term."""


def ramped(terms: Iterable[str], ramp: Callable[..., float], length: int) -> dict[str, Ramp]:
    """Return a ramp of so many epochs for each of the terms; none where it has no length."""
    return dict.fromkeys(terms, partial(ramp, length=length)) if length else {}


def sigmoid_ramp(epoch: int, epochs: int, *, length: int) -> float:
    """Return exp(−5·(1 − min(t, L)/L)²): from 0.0067 at t = 0 to 1 at t = L (ONE, Zhu et al., NeurIPS 2018).

    length: L in epochs; 0 is no ramp, always 1.
    """
    if length == 0:
        return 1.0
    return math.exp(-5 * (1 - min(epoch, length) / length) ** 2)


def linear_ramp(epoch: int, epochs: int, *, length: int) -> float:
    """Return min((t + 1)/L, 1): from 1/L in the first epoch to 1 in the L-th (DKD, Zhao et al., CVPR 2022).

    length: L in epochs; 0 is no ramp, always 1.
    """
    return min((epoch + 1) / length, 1.0) if length else 1.0


def progress(epoch: int, epochs: int) -> float:
    """Return (t + 1)/E: from 1/E in the first epoch to 1 in the last (PS-KD, Kim et al., ICCV 2021)."""
    return (epoch + 1) / epochs


def later_generation(epoch: int, epochs: int, *, generations: int) -> float:
    """Return 0 in the first of so many equal parts of training, and 1 from the second on (born-again networks)."""
    return float(epoch * generations >= epochs)
