"""DKD: decoupled knowledge distillation (Zhao et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar, Unpack

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.losses.decoupled import non_target_kl, target_kl
from classmates.losses.ramps import linear_ramp, ramped
from classmates.losses.soft_targets import kl_weight, standardised
from classmates.methods.about import About
from classmates.methods.checks import check_ramp, check_temperature, check_weight
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod


class DKD(TeacherMethod):
    """KD whose two parts, how sure the teacher is of the true class and how it ranks the others, weigh apart.

    L = a CE(z, y) + r(t) T² [α KL(b_t ‖ b_s) + β KL(p̂_t ‖ p̂_s)], with b = (p_y, 1 − p_y), p̂ the softmax over all
    classes but the true one y, and r(t) = min((t + 1) / warmup, 1) for epoch t from 0 (released code). In KD
    the second part has the weight 1 − p_y of the teacher, next to nothing where the teacher is sure.

    Args:
        temperature: T, softens both sides; 4.
        ce: a, weight of the labels.
        alpha: α, weight of the true class's part.
        beta: β, weight of the other classes' part: 2 to 8 for CIFAR-100, more for a surer teacher; 0.5 for
            ImageNet, with T = 1.
        warmup: epochs over which both weights grow; 20.
        standardise: take each sample's logits as z-scores before they are taken apart (``losses/soft_targets.py``).

    Raises:
        UserError: no teacher, one that does not fit the data, a temperature not above 0, a weight or warm-up below 0,
            or fewer than 3 classes, of which there is nothing to rank.
    """

    about = About("teacher", 2022, 1.2, search={"alpha": (0.3, 1, 3), "beta": (2, 8, 16)})
    lengths: ClassVar[tuple[str, ...]] = ("warmup",)
    from_logits: ClassVar[Sequence[str]] = ("target", "non_target")

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: int = 20,
        standardise: bool = False,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        check_temperature(temperature=temperature)
        check_ramp(warmup=warmup)
        check_weight(alpha=alpha, beta=beta)
        if data.num_classes < 3:
            raise UserError(
                f"the data have {data.num_classes} classes: DKD needs 3 or more, for it ranks the wrong ones"
            )
        weights = {"target": kl_weight(alpha, temperature), "non_target": kl_weight(beta, temperature)}
        ramps = ramped(weights, linear_ramp, warmup)
        super().__init__(network, data, weights, labels=ce, ramps=ramps, **teacher)
        self.temperature = temperature
        self.warmup = warmup
        self.standardise = standardise

    def against_mixing(self) -> str:
        return "its loss is taken apart at the one true class of each image"

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        both = cache(lambda: self.logits(outputs[-1].logits, batch))
        return {
            "target": lambda: target_kl(*both(), batch.labels, self.temperature),
            "non_target": lambda: non_target_kl(*both(), batch.labels, self.temperature),
        }

    def logits(self, student: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's logits, [B, K] each."""
        teacher = self.teacher_logits(batch, self.temperature)
        return (standardised(student), standardised(teacher)) if self.standardise else (student, teacher)
