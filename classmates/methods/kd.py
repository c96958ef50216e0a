"""KD: distilling the knowledge in a neural network (Hinton, Vinyals and Dean, 2015)."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.losses.soft_targets import softened_kl
from classmates.methods.base import Terms, check_temperature
from classmates.methods.teacher_method import TeacherMethod


class KD(TeacherMethod):
    """The student learns from the labels and from its teacher's softened predictions (section 2).

    The paper names no weights for CIFAR; the defaults are RepDistiller's, on whose numbers most papers build.

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        cache: run the teacher once for each sample and keep its outputs; only without augmentation.
        temperature: T, softens both sides.
        ce: weight of the labels.
        distillation: factor in front of T²·KL; T² keeps the gradient's size when T changes (paper).

    Raises UserError for no teacher or one that does not fit the data, and a temperature not above 0.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        cache: bool = False,
        temperature: float = 4.0,
        ce: float = 0.1,
        distillation: float = 0.9,
    ):
        check_temperature(temperature=temperature)
        super().__init__(network, data, teacher, teacher_weights, {"ce": ce, "distillation": distillation}, cache)
        self.temperature = temperature

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = outputs[-1].logits
        return {
            "ce": lambda: F.cross_entropy(logits.float(), batch.labels),
            "distillation": lambda: softened_kl(logits, self.teacher.outputs(batch).logits, self.temperature),
        }
