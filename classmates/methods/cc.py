"""CC: correlation congruence for knowledge distillation (Peng et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Unpack

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import ClassUniform
from classmates.errors import UserError
from classmates.losses.similarity import correlation_congruence
from classmates.methods.about import About
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod
from classmates.networks.memory.gather import gather, gather_with_gradient


class CC(TeacherMethod):
    """The embeddings of a batch correlate for the student as they do for the teacher.

    L = CE(z, y) + w / B² · ‖K_s − K_t‖², with K the Gaussian kernel between the images' embeddings (section 3.3).

    This is the paper's kernel form. RepDistiller's loss of this name, credited to the authors' own code, is another
    one: products of consecutive rows' differences after linear layers on both sides.

    Args:
        correlation: w, weight of the kernels' loss; 100 (Knowledge-Distillation-Zoo), beside the labels alone. The
            paper also adds KD's term; for that, combine the two methods.
        gamma: γ of the Gaussian kernel; 0.4.
        order: the highest power in its Taylor series; 2.
        class_uniform: batches of a few classes with several images of each, so that there are correlations to learn
            (paper); otherwise ordinary batches, as in re-implementations.

    Raises:
        UserError: no teacher, one that does not fit the data, γ not above 0, an order below 1, or a task that needs
            batches of its own.
    """

    about = About(
        "teacher", 2019, 1.3, needs="batches of several images a class", search={"correlation": (30, 100, 300)}
    )
    renamed: ClassVar[Mapping[str, str]] = {"remember": "cache"}

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        correlation: float = 100.0,
        gamma: float = 0.4,
        order: int = 2,
        class_uniform: bool = True,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        if not 0 < gamma < math.inf:
            raise UserError(f"gamma={gamma}: the kernel's width must be above 0, and finite")
        if order < 1:
            raise UserError(f"order={order}: a kernel of order 0 is the same for all images, so 1 or more")
        sampling = ClassUniform() if class_uniform else None
        super().__init__(network, data, weights={"correlation": correlation}, sampling=sampling, **teacher)
        self.gamma = gamma
        self.order = order
        self.class_uniform = class_uniform

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        embedding = outputs[-1].embedding
        return {
            "correlation": lambda: correlation_congruence(
                gather_with_gradient(embedding),
                gather(self.teacher.outputs(batch).embedding),
                gamma=self.gamma,
                order=self.order,
            ),
        }

    def against_mixing(self) -> str | None:
        if not self.class_uniform:
            return None
        return "its batches hold several images of each of a few classes (class_uniform)"
