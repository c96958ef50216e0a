"""SP: similarity-preserving knowledge distillation (Tung and Mori, ICCV 2019)."""

from __future__ import annotations

from typing import ClassVar, Unpack

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.losses.similarity import similarity_preserving
from classmates.methods.about import About
from classmates.methods.teacher_method import TeacherMethod, TeacherOptions
from classmates.networks.memory.gather import gather, gather_with_gradient


class SP(TeacherMethod):
    """Images of a batch that are alike to the teacher's deepest stage shall be alike to the student's.

    L = CE(z, y) + γ / B² · ‖G_t − G_s‖², with G the row-normalised similarities between the images (eq. 4).

    Args:
        similarity: γ, weight of the similarities' loss; 3000 (paper and RepDistiller), for batches of 128 and 64.

    Raises:
        UserError: no teacher, or one that does not fit the data.
    """

    about = About("teacher", 2019, 1.2, search={"similarity": (1000, 3000, 9000)})
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        similarity: float = 3000.0,
        **teacher: Unpack[TeacherOptions],
    ):
        super().__init__(network, data, weights={"similarity": similarity}, **teacher)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        deepest = outputs[-1].stages[-1]
        return {
            "similarity": lambda: similarity_preserving(
                gather_with_gradient(deepest), gather(self.teacher(batch.images).stages[-1])
            )
        }
