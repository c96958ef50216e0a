"""Temperature scaling: one number by which logits are divided so that probabilities mean what they say.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2, equation 9.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.runs.student import StudentCard


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T > 0 at which the mean negative log-likelihood of softmax(z / T) is least.

    In 1/T that is convex, so that there is one minimum if any.

    Args:
        logits: z, [N, K], of validation images.
        labels: [N].

    Raises:
        UserError: the likelihood grows for ever as T falls, since every image is classified right, or as T rises,
            since the logits know no more of the classes than chance.
    """
    logits, labels = logits.detach().cpu().double(), labels.cpu()
    margins = logits.gather(1, labels[:, None]) - logits
    if bool((margins >= 0).all()):
        raise UserError(
            f"all {len(labels)} validation images are classified right: how sure the student may be cannot be told "
            "from them; calibration needs more validation images (--val_fraction in training)"
        )
    if float(margins.mean()) <= 0:
        raise UserError(
            "the student knows no more of the validation images than chance: it cannot be calibrated; train it "
            "longer or on more images"
        )

    def loss(log_scale: float) -> float:
        return F.cross_entropy(logits * math.exp(log_scale), labels).item()

    # The scale that matters is that of the margins; e^±12 around it holds every minimum but a degenerate one.
    centre = -math.log(float(margins.abs().mean()))
    found = minimize_scalar(loss, bounds=(centre - 12, centre + 12), method="bounded", options={"xatol": 1e-6})
    return math.exp(-found.x)


def temperature_in(card: StudentCard, run: str | Path) -> float:
    """Return the temperature of a student's card; UserError where there is none."""
    if card.temperature is None:
        command = f"classmates evaluate {shlex.quote(str(run))} --calibrated"
        raise UserError(
            f"the student in '{run}' is not calibrated yet: `{command}` fits its temperature on validation images"
        )
    return card.temperature


class Calibrated(nn.Module):
    """A classifier whose logits are divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) / self.temperature
