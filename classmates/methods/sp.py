"""SP: similarity-preserving knowledge distillation (Tung and Mori, ICCV 2019)."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.losses.similarity import similarity_preserving
from classmates.methods.base import Terms
from classmates.methods.teacher_method import TeacherMethod


class SP(TeacherMethod):
    """Images of a batch that are alike to the teacher's deepest stage shall be alike to the student's (eq. 4).

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        similarity: γ, weight of the similarities' loss; 3000 (paper and RepDistiller), for batches of 128 and 64.

    Raises UserError for no teacher or one that does not fit the data.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        similarity: float = 3000.0,
    ):
        super().__init__(network, data, teacher, teacher_weights, {"ce": 1.0, "similarity": similarity})

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        return {
            "ce": lambda: F.cross_entropy(output.logits.float(), batch.labels),
            "similarity": lambda: similarity_preserving(output.stages[-1], self.teacher(batch.images).stages[-1]),
        }
