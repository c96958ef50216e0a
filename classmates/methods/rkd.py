"""RKD: relational knowledge distillation (Park et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.losses.rkd import relational_angle, relational_distance
from classmates.methods.about import About
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod
from classmates.networks.memory.gather import gather, gather_with_gradient, own_part


class RKD(TeacherMethod):
    """A batch's embeddings have the teacher's shape: its distances and angles, wherever and however large.

    L = CE(z, y) + λ_D L_distance + λ_A L_angle (eq. 5 to 9).

    RKD-D is ``angle=0``, RKD-A ``distance=0``.

    Args:
        distance: λ_D, weight of the distances' loss; 25 beside the labels (RepDistiller). In metric learning the
            paper uses 1, without labels.
        angle: λ_A, weight of the angles' loss; 50 beside the labels, 2 in metric learning.

    Raises:
        UserError: no teacher, or one that does not fit the data.
    """

    about = About("teacher", 2019, 1.4, search={"distance": (8, 25, 75), "angle": (15, 50, 150)})
    mixes: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {"remember": "cache"}

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        distance: float = 25.0,
        angle: float = 50.0,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        super().__init__(network, data, weights={"distance": distance, "angle": angle}, **teacher)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        embedding = cache(lambda: gather_with_gradient(outputs[-1].embedding))
        taught = cache(lambda: gather(self.teacher.outputs(batch).embedding))
        return {
            "distance": lambda: relational_distance(embedding(), taught()),
            "angle": lambda: self.angle(embedding(), taught()),
        }

    def angle(self, embedding: Tensor, taught: Tensor) -> Tensor:
        """Return the angles' loss at the own images, between those of all processes [G·B, D]."""
        vertices = own_part(torch.arange(len(embedding), device=embedding.device))
        return relational_angle(embedding, taught, vertices)
