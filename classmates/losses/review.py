"""Hierarchical context loss (ReviewKD, Chen et al., CVPR 2021, section 3.4): two maps at several resolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

LEVELS = (4, 2, 1)
"""Sides to which maps are pooled, beside their own; each weighs half as much as the one before."""


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the weighted mean, over the maps as they are and pooled to 4, 2 and 1 pixels, of mean (F_s − F_t)².

    The weights are 1, ½, ¼, ... (released code); sides that a map is not larger than are left out.

    student, teacher: [B, C, H, W], of one shape; the teacher's is held constant. Returns a scalar in float32.
    """
    student, teacher = student.float(), teacher.detach().float()
    sides = [side for side in LEVELS if side < min(student.shape[-2:])]
    loss, weights = F.mse_loss(student, teacher), 1.0
    for number, side in enumerate(sides, start=1):
        weight = 0.5**number
        loss = loss + weight * F.mse_loss(F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side))
        weights += weight
    return loss / weights
