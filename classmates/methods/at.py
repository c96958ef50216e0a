"""AT: paying more attention to attention (Zagoruyko and Komodakis, ICLR 2017)."""

from __future__ import annotations

from typing import ClassVar, Unpack

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.losses.attention import attention_transfer
from classmates.methods.about import About
from classmates.methods.teacher_method import TeacherMethod, TeacherOptions


class AT(TeacherMethod):
    """At every stage, the student attends to the places in the image that its teacher attends to.

    L = CE(z, y) + β Σ over stages of the mean squared difference between normalised attention maps (eq. 2).

    Stages are matched from the deepest; where one network has more of them, its first ones are left out.

    Args:
        attention: β, weight of the mean squared difference summed over stages; 1000 (released code and RepDistiller),
            for maps of 32 to 8 pixels. A mean over places weighs more on small maps: with maps of 4 or 2 take less.

    Raises:
        UserError: no teacher, or one that does not fit the data.
    """

    about = About("teacher", 2017, 1.5, search={"attention": (300, 1000, 3000)})
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        attention: float = 1000.0,
        **teacher: Unpack[TeacherOptions],
    ):
        super().__init__(network, data, weights={"attention": attention}, **teacher)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"attention": lambda: self.attention(outputs[-1], self.teacher(batch.images))}

    @staticmethod
    def attention(student: NetworkOutput, teacher: NetworkOutput) -> Tensor:
        """Return the loss over the stages that both have, counted from the deepest."""
        depth = min(len(student.stages), len(teacher.stages))
        return attention_transfer(student.stages[-depth:], teacher.stages[-depth:])
