"""Weights that grow over the first epochs, while what peers say is not yet worth copying."""

from __future__ import annotations

import math


def sigmoid_ramp(epoch: int, length: int) -> float:
    """exp(−5·(1 − min(t, L)/L)²): from 0.0067 at epoch t = 0 to 1 at t = L (ONE, Zhu et al., NeurIPS 2018).

    epoch: t, from 0. length: L in epochs; 0 is no ramp, always 1.
    """
    if length == 0:
        return 1.0
    return math.exp(-5 * (1 - min(epoch, length) / length) ** 2)
