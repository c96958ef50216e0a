"""Tf-KD (Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020).

Teacher-free: the teacher is made by hand (Tf-KD_reg), or is a trained copy of the network itself (Tf-KD_self).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.checks import check_share, check_temperature, check_weight
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod, as_list

CORRECT = 0.99
"""The virtual teacher's probability of the true class, as published."""


def virtual_teacher(labels: Tensor, num_classes: int, correct: float = CORRECT) -> Tensor:
    """Return p^d, the hand-made teacher's output: ``correct`` for the true class, the rest shared evenly by others.

    labels: [B], int64. Returns [B, K], float32. These probabilities are then treated as logits: at T = 20 and 100
    classes their softmax is 0.0105 for the true class and 0.0100 for every other, all but uniform.
    """
    rows = torch.full((len(labels), num_classes), (1 - correct) / (num_classes - 1), device=labels.device)
    return rows.scatter_(1, labels[:, None], correct)


class TfKD(TeacherMethod):
    """The network learns from the labels and from a teacher that is virtual, or else a trained copy of itself.

    L = (1 − α) CE(z, y) + α m KL(p_teacher ‖ p_student). Without a ``teacher`` it is Tf-KD_reg, which needs no
    training before; with the trained copy as ``teacher`` it is Tf-KD_self.

    The virtual teacher's output is softened, softmax(p^d / T), the student's is not (released code), and there is no
    T². With a trained copy both are softened, and the KL is multiplied by T².

    The released code averages the KL over classes too and has a ``multiplier`` for it; here it is summed over them,
    so that m is the released multiplier divided by the number of classes: at 100 classes 100 is 1, and 50 is 0.5.

    Args:
        alpha: α, share of the distillation. Released for ResNet-18 on CIFAR-100, and what None takes: 0.1 with the
            virtual teacher, 0.95 with a trained copy.
        temperature: T; None takes 20 with the virtual teacher, 6 with a trained copy, as released for ResNet-18.
        multiplier: m; None takes 1 with the virtual teacher, 0.5 with a trained copy, as released for ResNet-18.
        correct: the virtual teacher's probability of the true class.
        temper_student: soften the student against the virtual teacher too, as the paper writes.
        standardise: take each sample's logits as z-scores beside a trained copy (``losses/soft_targets.py``).

    Raises:
        UserError: an ``alpha`` outside 0..1, a temperature not above 0, a ``multiplier`` below 0, a ``correct`` not
            between 1/K and 1, ``standardise`` with the virtual teacher, ``correct`` or ``temper_student`` with a
            trained copy, or a teacher that does not fit the data.
    """

    about = About("self", 2020, 1.0, search={"alpha": (0.1, 0.5, 0.95)})
    needs_teacher: ClassVar[bool] = False
    from_logits: ClassVar[Sequence[str]] = ("distillation",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float | None = None,
        temperature: float | None = None,
        multiplier: float | None = None,
        correct: float = CORRECT,
        temper_student: bool = False,
        standardise: bool = False,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        virtual = not as_list(teacher.get("teacher"))
        released = (0.1, 20.0, 1.0) if virtual else (0.95, 6.0, 0.5)
        alpha, temperature, multiplier = (
            default if given is None else given
            for given, default in zip((alpha, temperature, multiplier), released, strict=True)
        )
        check_share(alpha=alpha)
        check_temperature(temperature=temperature)
        check_weight(multiplier=multiplier)
        check_standardise(standardise, data.num_classes)
        if standardise and virtual:
            raise UserError(
                "standardise needs a trained copy (--method.teacher RUN_FOLDER): the virtual teacher has no logits, "
                "and z-scores of its probabilities would not depend on correct"
            )
        if not virtual and (temper_student or correct != CORRECT):
            raise UserError(
                "correct and temper_student are of the virtual teacher: with a trained copy (--method.teacher) leave "
                "them out"
            )
        if not 1 / data.num_classes < correct < 1:
            raise UserError(
                f"correct={correct}: the true class's probability lies between that of a guess, "
                f"1/{data.num_classes}, and 1"
            )
        weights = {"distillation": kl_weight(alpha * multiplier, temperature, scale=not virtual)}
        super().__init__(network, data, weights, labels=1 - alpha, **teacher)
        self.num_classes = data.num_classes
        self.temperature = temperature
        self.correct = correct
        self.temper_student = temper_student
        self.standardise = standardise

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = outputs[-1].logits
        return {"distillation": lambda: self.distillation(logits, batch)}

    def against_mixing(self) -> str | None:
        return "its virtual teacher knows one true class for each image" if not self.has_teacher else None

    def distillation(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return KL(teacher ‖ student), summed over classes, of the trained copy or of the virtual teacher."""
        if self.has_teacher:
            of_teacher = self.teacher_logits(batch, self.temperature)
            return softened_kl(logits, of_teacher, self.temperature, standardise=self.standardise)
        of_teacher = virtual_teacher(batch.labels, self.num_classes, self.correct)
        if self.temper_student:
            return softened_kl(logits, of_teacher, self.temperature)
        return softened_kl(logits, of_teacher / self.temperature, 1.0)
