"""FitNet: hints for thin deep nets (Romero et al., ICLR 2015): half-way, the student makes the teacher's map."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods.base import Output, Terms
from classmates.methods.teacher_method import TeacherMethod
from classmates.networks.heads.adapters import adapter

TEMPERATURE = 3.0
FIRST_FACTOR, LAST_FACTOR = 4.0, 1.0  # of the distillation, at the start and the end of the second stage


class FitNet(TeacherMethod):
    """The student's middle stage, through a regressor, is to equal the teacher's map at that depth (eq. 3).

    The paper trains in two stages: first the hint alone, which reaches only the student's layers up to the middle;
    then labels and distillation (T = 3 without T², its factor going from 4 to 1) without the hint. All released
    re-implementations train labels and hint together instead, and their numbers are quoted: that is the default.

    The regressor is chosen by the maps' sizes (``heads/adapters.py``), with BatchNorm and ReLU (RepDistiller).

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        hint: β, weight of the mean squared difference; 100 (RepDistiller).
        stage: which of the student's stages, counted like a Python list; the middle one if not given (the second of
            three or four). The teacher's is the one that is as far from its end, or its first where it has none.
        hint_epochs: 0 trains both together; otherwise the hint alone for so many epochs, then the paper's second
            stage. The learning rate's schedule goes through. On several devices that needs
            --strategy ddp_find_unused_parameters_true.

    Raises UserError for no teacher or one that does not fit the data, a stage that the student does not have, maps
    that cannot be brought together, ``hint_epochs`` below 0, as many as training has, or without a ``hint``.
    """

    lengths: ClassVar[tuple[str, ...]] = ("hint_epochs",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        hint: float = 100.0,
        stage: int | None = None,
        hint_epochs: int = 0,
    ):
        if hint_epochs < 0:
            raise UserError(f"hint_epochs={hint_epochs}: give 0 to train labels and hint together, or more")
        if hint_epochs and not hint:
            raise UserError(f"hint=0 leaves nothing to learn in hint_epochs={hint_epochs}: change one of them")
        super().__init__(network, data, teacher, teacher_weights, {"ce": 1.0, "hint": hint, "distillation": 0.0})
        stages, hints = self.networks.architecture.stages, self.teacher.architecture.stages
        if stage is None:
            stage = (len(stages) - 1) // 2
        if not -len(stages) <= stage < len(stages):
            raise UserError(
                f"stage={stage}: the student has {len(stages)}, from 0 ({stages[0].name}) to {len(stages) - 1} "
                f"({stages[-1].name})"
            )
        self.guided = stage % len(stages) - len(stages)  # from the end
        self.hinting = max(self.guided, -len(hints))
        self.regressor = adapter(stages[self.guided].shape, hints[self.hinting].shape)
        self.hint = hint
        self.hint_epochs = hint_epochs

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        taught = cache(lambda: self.teacher(batch.images))
        return {
            "ce": lambda: F.cross_entropy(output.logits.float(), batch.labels),
            "hint": lambda: hint_loss(self.regressor(output.stages[self.guided]), taught().stages[self.hinting]),
            "distillation": lambda: softened_kl(output.logits, taught().logits, TEMPERATURE, scale=False),
        }

    def forward(self, batch: Batch) -> Output:
        self.weights = self.weights_now()
        return super().forward(batch)

    def weights_now(self) -> dict[str, float]:
        """The weights in this epoch, which differ between the paper's two stages."""
        self.check_length(self.epochs)
        if self.hint_epochs == 0:
            return self.weights
        if self.epoch < self.hint_epochs:
            return {"ce": 0.0, "hint": self.hint, "distillation": 0.0}
        done = (self.epoch - self.hint_epochs) / max(self.epochs - self.hint_epochs - 1, 1)
        return {"ce": 1.0, "hint": 0.0, "distillation": FIRST_FACTOR + done * (LAST_FACTOR - FIRST_FACTOR)}

    def check_length(self, epochs: int) -> list[str]:
        if self.hint_epochs >= epochs:
            raise UserError(
                f"hint_epochs={self.hint_epochs} of {epochs} epochs leaves none to learn the labels in: give fewer, "
                "or train longer (in a loop of your own, set the method's epochs)"
            )
        return super().check_length(epochs)

    def check_combinable(self) -> None:
        if self.hint_epochs:
            raise UserError(
                f"hint_epochs={self.hint_epochs}: FitNet's two stages are of the whole loss; to combine it with "
                "others, give hint_epochs=0"
            )


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over all elements of (r(F_s) − F_t)²; maps of one shape, the teacher's held constant.

    The paper takes half the sum over elements; the mean is the re-implementations', and what β = 100 belongs to.
    """
    return F.mse_loss(student.float(), teacher.detach().float())
