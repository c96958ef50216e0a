"""ReviewKD: distilling knowledge via knowledge review (Chen et al., CVPR 2021)."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.losses.ramps import linear_ramp, ramped
from classmates.losses.review import hierarchical_context
from classmates.methods.about import About
from classmates.methods.checks import check_ramp
from classmates.methods.teacher_method import TeacherMethod, TeacherOptions
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.heads.review import Review, Shape


class ReviewKD(TeacherMethod):
    """The teacher's shallow stages teach the student's deep ones: each stage is joined by what is deeper.

    L = CE(z, y) + r(t) w Σ_stages HCL(U_i, F_t,i), with U_i the student's stages i and deeper, fused by attention,
    HCL the mean squared difference at several resolutions, and r(t) = min((t + 1) / warmup, 1) for epoch t
    from 0. The embedding, as a map of one pixel, is the last stage.

    Stages are matched from the deepest; where one network has more of them, its first ones are left out. They are
    observed after their ReLU; the released code compares the maps before it.

    Args:
        review: w, weight of the review: 0.6 to 8 on CIFAR-100 (released: 1 for ResNet-110 teaching ResNet-32, 5 for
            ResNet-32x4 teaching ResNet-8x4), 1 on ImageNet.
        warmup: epochs over which that weight grows; 20. The released code leaves it out in the first of them.

    Raises:
        UserError: no teacher, one that does not fit the data, or a warm-up below 0.
    """

    about = About("teacher", 2021, 1.9, search={"review": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True
    lengths: ClassVar[tuple[str, ...]] = ("warmup",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        review: float = 1.0,
        warmup: int = 20,
        **teacher: Unpack[TeacherOptions],
    ):
        check_ramp(warmup=warmup)
        ramps = ramped(["review"], linear_ramp, warmup)
        super().__init__(network, data, weights={"review": review}, ramps=ramps, **teacher)
        self.warmup = warmup
        student, trained = shapes(self.networks.architecture), shapes(self.teacher.architecture)
        self.depth = min(len(student), len(trained))
        self.fusion = Review(student[-self.depth :], trained[-self.depth :])

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"review": lambda: self.review(outputs[-1], self.teacher(batch.images))}

    def review(self, student: NetworkOutput, teacher: NetworkOutput) -> Tensor:
        """Return the sum over stages of the loss between the student's fused map and the teacher's."""
        fused, taught = self.fusion(maps(student)[-self.depth :]), maps(teacher)[-self.depth :]
        return torch.stack([hierarchical_context(*pair) for pair in zip(fused, taught, strict=True)]).sum()


def shapes(architecture: Architecture) -> list[Shape]:
    """Return (C, H, W) of every stage's map, shallow to deep, and of the embedding as a map of one pixel."""
    return [*(stage.shape for stage in architecture.stages), (architecture.embedding, 1, 1)]


def maps(output: NetworkOutput) -> list[Tensor]:
    """Return the maps of which ``shapes`` tells the shapes."""
    return [*output.stages, output.embedding[:, :, None, None]]
