"""RKD: relational knowledge distillation (Park et al., CVPR 2019)."""

from __future__ import annotations

from functools import cache

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, View
from classmates.losses.relational import relational_angle, relational_distance
from classmates.methods.base import Terms
from classmates.methods.taught import Taught


class RKD(Taught):
    """A batch's embeddings have the teacher's shape: its distances and angles, wherever and however large (eq. 5-9).

    RKD-D is ``angle=0``, RKD-A ``distance=0``.

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        remember: ask the teacher once for each sample and keep its answer; only without augmentation.
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
        remember: bool = False,
        distance: float = 25.0,
        angle: float = 50.0,
    ):
        weights = {"ce": 1.0, "distance": distance, "angle": angle}
        super().__init__(network, data, teacher, teacher_weights, weights, remember)

    def terms(self, views: list[View], batch: Batch) -> Terms:
        view = views[-1]
        taught = cache(lambda: self.teacher.answers(batch).embedding)
        return {
            "ce": lambda: F.cross_entropy(view.logits.float(), batch.labels),
            "distance": lambda: relational_distance(view.embedding, taught()),
            "angle": lambda: relational_angle(view.embedding, taught()),
        }
