"""CC: correlation congruence for knowledge distillation (Peng et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.data.batches.samplers import ClassUniform, EpochSampler, Shuffled
from classmates.errors import UserError
from classmates.losses.similarity import correlation_congruence
from classmates.methods.base import Terms
from classmates.methods.teacher_method import TeacherMethod


class CC(TeacherMethod):
    """The embeddings of a batch correlate for the student as they do for the teacher (section 3.3).

    This is the paper's kernel form. RepDistiller's loss of this name, credited to the authors' own code, is another
    one: products of consecutive rows' differences after linear layers on both sides.

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        cache: run the teacher once for each sample and keep its outputs; only without augmentation.
        correlation: weight of the kernels' loss; 100 (Knowledge-Distillation-Zoo), beside the labels alone. The paper
            also adds KD's term; for that, combine the two methods.
        gamma: γ of the Gaussian kernel; 0.4.
        order: the highest power in its Taylor series; 2.
        class_uniform: batches of a few classes with several images of each, so that there are correlations to learn
            (paper); otherwise ordinary batches, as in re-implementations.

    Raises UserError for no teacher or one that does not fit the data, γ not above 0, or an order below 1.
    """

    sampling: type[EpochSampler] = ClassUniform

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        cache: bool = False,
        correlation: float = 100.0,
        gamma: float = 0.4,
        order: int = 2,
        class_uniform: bool = True,
    ):
        if not gamma > 0:
            raise UserError(f"gamma={gamma}: the kernel's width must be above 0")
        if order < 1:
            raise UserError(f"order={order}: a kernel of order 0 is the same for all images, so 1 or more")
        super().__init__(network, data, teacher, teacher_weights, {"ce": 1.0, "correlation": correlation}, cache)
        self.sampling = self.sampling_for({"class_uniform": class_uniform})
        self.gamma = gamma
        self.order = order

    @classmethod
    def sampling_for(cls, options: Mapping[str, Any]) -> type[EpochSampler]:
        return ClassUniform if options.get("class_uniform", True) else Shuffled

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        return {
            "ce": lambda: F.cross_entropy(output.logits.float(), batch.labels),
            "correlation": lambda: correlation_congruence(
                output.embedding, self.teacher.outputs(batch).embedding, gamma=self.gamma, order=self.order
            ),
        }
