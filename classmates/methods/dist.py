"""DIST: knowledge distillation from a stronger teacher (Huang et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar, Unpack

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.losses.correlation import inter_class, intra_class
from classmates.losses.soft_targets import kl_weight
from classmates.methods.about import About
from classmates.methods.checks import check_temperature
from classmates.methods.teacher_method import CachingTeacherOptions, TeacherMethod
from classmates.networks.memory.gather import gather, gather_with_gradient


class DIST(TeacherMethod):
    """The student's predictions correlate with the teacher's, over the classes of an image and the images of a class.

    L = a CE(z, y) + β T² mean_i (1 − ρ(Y_s[i, :], Y_t[i, :])) + γ T² mean_c (1 − ρ(Y_s[:, c], Y_t[:, c])), with Y the
    softened probabilities [B, K] and ρ Pearson's correlation. T² is the released code's.

    Args:
        temperature: T, softens both sides; 4 on CIFAR-100, 1 on ImageNet.
        ce: a, weight of the labels.
        inter: β, weight of the correlation over classes; 2, on ImageNet too (released).
        intra: γ, weight of the correlation over the batch's images, for which large batches say more.

    Raises:
        UserError: no teacher, one that does not fit the data, a temperature not above 0, or with ``inter`` fewer than
            3 classes, between which there is nothing to correlate.
    """

    about = About("teacher", 2022, 1.4, search={"inter": (0.7, 2, 6), "intra": (0.7, 2, 6)})
    mixes: ClassVar[bool] = True
    from_logits: ClassVar[Sequence[str]] = ("inter", "intra")

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        temperature: float = 4.0,
        ce: float = 1.0,
        inter: float = 2.0,
        intra: float = 2.0,
        **teacher: Unpack[CachingTeacherOptions],
    ):
        check_temperature(temperature=temperature)
        if inter and data.num_classes < 3:
            raise UserError(
                f"the data have {data.num_classes} classes: probabilities of fewer than 3 always correlate; give "
                "inter=0"
            )
        weights = {"inter": kl_weight(inter, temperature), "intra": kl_weight(intra, temperature)}
        super().__init__(network, data, weights, labels=ce, **teacher)
        self.temperature = temperature

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = outputs[-1].logits
        taught = cache(lambda: self.teacher_logits(batch, self.temperature))
        return {
            "inter": lambda: inter_class(logits, taught(), self.temperature),
            "intra": lambda: intra_class(gather_with_gradient(logits), gather(taught()), self.temperature),
        }
