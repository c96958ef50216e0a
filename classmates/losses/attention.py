"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017): the student looks where the teacher looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_transfer(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Σ over stages of the mean over samples and places of (Q_s − Q_t)² (eq. 2 without β/2).

    The paper writes (β/2)·‖Q_s − Q_t‖ for a stage; its released code takes the mean of squares, to which its weight
    of 1000 belongs. It is a mean over places, so a small map weighs more than a large one.

    Args:
        student, teacher: maps [B, C, H, W], one a stage; two of a stage may differ in channels and in size. Where
            they differ in size, each side is pooled to the smaller of the two, as RepDistiller does. The teacher's
            are held constant.

    Returns:
        A scalar, float32; 0 where both look at the same places.
    """
    return torch.stack([_one_stage(*pair) for pair in zip(student, teacher, strict=True)]).sum()


def attention_map(maps: Tensor) -> Tensor:
    """Q: the mean over channels of the squared map, divided by its Euclidean norm: [B, C, H, W] → [B, H·W]."""
    return F.normalize(maps.float().square().mean(dim=1).flatten(1), dim=1)


def _one_stage(student: Tensor, teacher: Tensor) -> Tensor:
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    q_s, q_t = (attention_map(F.adaptive_avg_pool2d(maps, size)) for maps in (student, teacher.detach()))
    return (q_s - q_t).square().mean()
