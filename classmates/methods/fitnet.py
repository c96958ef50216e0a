"""FitNet: hints for thin deep nets (Romero et al., ICLR 2015): half-way, the student makes the teacher's map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import ClassVar, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.losses.ramps import Ramp
from classmates.losses.soft_targets import softened_kl
from classmates.methods.about import About
from classmates.methods.teacher_method import TeacherMethod, TeacherOptions
from classmates.networks.heads.adapters import adapter

TEMPERATURE = 3.0
FIRST_FACTOR, LAST_FACTOR = 4.0, 1.0  # of the distillation, at the start and the end of the second stage


def first_stage(epoch: int, epochs: int, *, hints: int) -> float:
    """Return 1 in the first ``hints`` epochs, then 0."""
    return 1.0 if epoch < hints else 0.0


def second_stage(epoch: int, epochs: int, *, hints: int) -> float:
    """Return 0 in the first ``hints`` epochs, then 1."""
    return 1.0 - first_stage(epoch, epochs, hints=hints)


def fading_distillation(epoch: int, epochs: int, *, hints: int) -> float:
    """Return 0 in the first ``hints`` epochs, then from 4 evenly down to 1 in the last."""
    done = (epoch - hints) / max(epochs - hints - 1, 1)
    return second_stage(epoch, epochs, hints=hints) * (FIRST_FACTOR + done * (LAST_FACTOR - FIRST_FACTOR))


class FitNet(TeacherMethod):
    """The student's middle stage, through a regressor, is to equal the teacher's map at that depth.

    L = CE(z, y) + β mean (r(F_s) − F_t)², with r the regressor (eq. 3).

    The paper trains in two stages: first the hint alone, which reaches only the student's layers up to the middle;
    then labels and distillation (T = 3 without T², its factor going from 4 to 1) without the hint. All released
    re-implementations train labels and hint together instead, and their numbers are quoted: that is the default.

    The regressor is chosen by the maps' sizes (``heads/adapters.py``), with BatchNorm and ReLU (RepDistiller).

    Args:
        hint: β, weight of the mean squared difference; 100 (RepDistiller).
        stage: which of the student's stages, counted like a Python list; the middle one if not given (the second of
            three or four). The teacher's is the one that is as far from its end, or its first where it has none.
        hint_epochs: 0 trains both together; otherwise the hint alone for so many epochs, then the paper's second
            stage. The learning rate's schedule goes through.

    Raises:
        UserError: no teacher, one that does not fit the data, a stage that the student does not have, maps that
            cannot be brought together, ``hint_epochs`` below 0, as many as training has, or without a ``hint``.
    """

    about = About("teacher", 2015, 1.3, search={"hint": (30, 100, 300)})
    mixes: ClassVar[bool] = True
    from_logits: ClassVar[Sequence[str]] = ("distillation",)
    lengths: ClassVar[tuple[str, ...]] = ("hint_epochs",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        hint: float = 100.0,
        stage: int | None = None,
        hint_epochs: int = 0,
        **teacher: Unpack[TeacherOptions],
    ):
        if hint_epochs < 0:
            raise UserError(f"hint_epochs={hint_epochs}: give 0 to train labels and hint together, or more")
        if hint_epochs and not hint:
            raise UserError(f"hint=0 leaves nothing to learn in hint_epochs={hint_epochs}: change one of them")
        super().__init__(
            network,
            data,
            weights={"hint": hint, "distillation": 1.0 if hint_epochs else 0.0},
            **teacher,
        )
        if hint_epochs:
            stages_apart: dict[str, Ramp] = dict.fromkeys(self.task.weights, partial(second_stage, hints=hint_epochs))
            stages_apart |= {"hint": partial(first_stage, hints=hint_epochs)}
            self.ramps = {**stages_apart, "distillation": partial(fading_distillation, hints=hint_epochs)}
        stages, hints = self.networks.architecture.stages, self.teacher.architecture.stages
        if stage is None:
            stage = (len(stages) - 1) // 2
        if not -len(stages) <= stage < len(stages):
            raise UserError(
                f"stage={stage}: the student has {len(stages)}, from 0 ({stages[0].name}) to {len(stages) - 1} "
                f"({stages[-1].name})"
            )
        self.student_stage = stage % len(stages) - len(stages)  # from the end
        self.teacher_stage = max(self.student_stage, -len(hints))
        self.regressor = adapter(stages[self.student_stage].shape, hints[self.teacher_stage].shape)
        self.hint_epochs = hint_epochs

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        self.check_length(self.epochs)  # for loops of one's own, which may not have asked
        output = outputs[-1]
        target = cache(lambda: self.teacher(batch.images))
        return {
            "hint": lambda: hint_loss(
                self.regressor(output.stages[self.student_stage]), target().stages[self.teacher_stage]
            ),
            "distillation": lambda: softened_kl(output.logits, target().logits, TEMPERATURE),
        }

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
    """Return the mean over all elements of (r(F_s) − F_t)²; maps of one shape, the teacher's held constant.

    The paper takes half the sum over elements; the mean is the re-implementations', and what β = 100 belongs to.
    """
    return F.mse_loss(student.float(), teacher.detach().float())
