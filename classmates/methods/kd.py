"""KD: distilling the knowledge in a neural network (Hinton, Vinyals and Dean, 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.checks import check_temperature
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod


class KD(TeacherMethod):
    """The student learns from the labels and from its teacher's softened predictions.

    L = a CE(z, y) + w T² KL(p_teacher ‖ p_student), both softened by T (section 2).

    The paper names no weights for CIFAR; the defaults are RepDistiller's, on whose numbers most papers build.

    Args:
        temperature: T, softens both sides.
        ce: a, weight of the labels.
        distillation: w, factor in front of T²·KL; T² keeps the gradient's size when T changes (paper).
        standardise: take each sample's logits as z-scores in the distillation (``losses/soft_targets.py``).
            Published with T = 2 and w = 9 (Sun et al., CVPR 2024).

    Raises:
        UserError: no teacher, one that does not fit the data, or a temperature not above 0.
    """

    about = About("teacher", 2015, 1.2, search={"distillation": (0.3, 0.9, 2.7), "temperature": (2, 4, 8)})
    mixes: ClassVar[bool] = True
    from_logits: ClassVar[Sequence[str]] = ("distillation",)
    renamed: ClassVar[Mapping[str, str]] = {"remember": "cache"}

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        temperature: float = 4.0,
        ce: float = 0.1,
        distillation: float = 0.9,
        standardise: bool = False,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        weights = {"distillation": kl_weight(distillation, temperature)}
        super().__init__(network, data, weights, labels=ce, **teacher)
        self.temperature = temperature
        self.standardise = standardise

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"distillation": lambda: self.distillation(outputs[-1].logits, batch)}

    def distillation(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return KL(p_teacher ‖ p_student) without T²."""
        teacher = self.teacher_logits(batch, self.temperature)
        return softened_kl(logits, teacher, self.temperature, standardise=self.standardise)
