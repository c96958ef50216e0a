"""ReviewKD's fusion of the student's stages (Chen et al., CVPR 2021, sections 3.3 and 3.4): training only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, int, int]
WIDEST = 512  # channels that are reviewed at most


class AttentionFusion(nn.Module):
    """A stage's map and what was reviewed of all deeper ones, weighed place by place, to the shape of the teacher's.

    1x1 convolution and BN of the stage's map; with what is reviewed, brought to its size, a 1x1 convolution and a
    sigmoid give a weight for each of the two at every place; their sum is reviewed further, and through a 3x3
    convolution and BN compared with the teacher's map.

    Args:
        student, teacher: (C, H, W) of the stage's map on either side.
        reviewed: channels of what is reviewed.
        deepest: there is nothing deeper to weigh it against.
    """

    def __init__(self, student: Shape, teacher: Shape, reviewed: int, *, deepest: bool):
        super().__init__()
        self.size = teacher[1:]
        first = nn.Conv2d(student[0], reviewed, 1, bias=False)
        last = nn.Conv2d(reviewed, teacher[0], 3, padding=1, bias=False)
        for convolution in (first, last):
            nn.init.kaiming_uniform_(convolution.weight, a=1)  # as released
        self.reduce = nn.Sequential(first, nn.BatchNorm2d(reviewed))
        self.expand = nn.Sequential(last, nn.BatchNorm2d(teacher[0]))
        self.attention = None if deepest else nn.Conv2d(2 * reviewed, 2, 1)

    def forward(self, maps: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the map to compare with the teacher's, and what is reviewed of this stage and all deeper ones.

        maps: [B, C, H, W]. deeper: what the next deeper stage returned of the latter; None for the deepest.
        """
        own = self.reduce(maps)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, own.shape[-2:])  # nearest, as released
            first, second = self.attention(torch.cat([own, deeper], 1)).sigmoid().split(1, dim=1)
            own = first * own + second * deeper
        if own.shape[-2:] != self.size:
            own = F.interpolate(own, self.size)
        return self.expand(own), own


class Review(nn.Module):
    """The fusions of all stages, the embedding last as a map of one pixel: each as the teacher's stage is shaped.

    Args:
        student, teacher: (C, H, W) of the stages that meet, shallow to deep, the embedding's (D, 1, 1) last.
    """

    def __init__(self, student: Sequence[Shape], teacher: Sequence[Shape]):
        super().__init__()
        reviewed = min(WIDEST, student[-1][0])
        last = len(student) - 1
        self.fusions = nn.ModuleList(
            AttentionFusion(*shapes, reviewed, deepest=place == last)
            for place, shapes in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps to compare with the teacher's, shallow to deep, of the student's [B, C, H, W]."""
        fused: list[Tensor] = []
        deeper: Tensor | None = None
        for own, fusion in zip(reversed(maps), reversed(self.fusions), strict=True):
            compared, deeper = fusion(own, deeper)
            fused.insert(0, compared)
        return fused
