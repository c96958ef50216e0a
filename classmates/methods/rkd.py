"""RKD: relational knowledge distillation (Park et al., CVPR 2019)."""

from __future__ import annotations

from functools import cache

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.losses.rkd import relational_angle, relational_distance
from classmates.methods.base import Terms
from classmates.methods.teacher_method import TeacherMethod


class RKD(TeacherMethod):
    """A batch's embeddings have the teacher's shape: its distances and angles, wherever and however large (eq. 5-9).

    RKD-D is ``angle=0``, RKD-A ``distance=0``.

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        cache: run the teacher once for each sample and keep its outputs; only without augmentation.
        distance: λ_D, weight of the distances' loss; 25 beside the labels (RepDistiller). In metric learning the
            paper uses 1, without labels.
        angle: λ_A, weight of the angles' loss; 50 beside the labels, 2 in metric learning.

    Raises UserError for no teacher or one that does not fit the data.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        cache: bool = False,
        distance: float = 25.0,
        angle: float = 50.0,
    ):
        weights = {"ce": 1.0, "distance": distance, "angle": angle}
        super().__init__(network, data, teacher, teacher_weights, weights, cache)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        taught = cache(lambda: self.teacher.outputs(batch).embedding)
        return {
            "ce": lambda: F.cross_entropy(output.logits.float(), batch.labels),
            "distance": lambda: relational_distance(output.embedding, taught()),
            "angle": lambda: relational_angle(output.embedding, taught()),
        }
