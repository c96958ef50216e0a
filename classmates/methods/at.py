"""AT: paying more attention to attention (Zagoruyko and Komodakis, ICLR 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.losses.attention import attention_transfer
from classmates.methods.base import Terms
from classmates.methods.teacher_method import TeacherMethod


class AT(TeacherMethod):
    """At every stage, the student attends to the places in the image that its teacher attends to (eq. 2).

    Stages are matched from the deepest; where one network has more of them, its first ones are left out.

    Args:
        teacher: the folder of a finished run, a model's name with its weights, or in Python a trained module.
        teacher_weights: the file of the weights of a teacher given by its name; timm's published ones without it.
        attention: β, weight of the mean squared difference summed over stages; 1000 (released code and RepDistiller),
            for maps of 32 to 8 pixels. A mean over places weighs more on small maps: with maps of 4 or 2 take less.

    Raises UserError for no teacher or one that does not fit the data.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        teacher: str | nn.Module | None = None,
        teacher_weights: str | None = None,
        attention: float = 1000.0,
    ):
        super().__init__(network, data, teacher, teacher_weights, {"ce": 1.0, "attention": attention})

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        return {
            "ce": lambda: F.cross_entropy(output.logits.float(), batch.labels),
            "attention": lambda: self.attention(output, self.teacher(batch.images)),
        }

    @staticmethod
    def attention(student: NetworkOutput, teacher: NetworkOutput) -> Tensor:
        """The loss over the stages that both have, counted from the deepest."""
        depth = min(len(student.stages), len(teacher.stages))
        return attention_transfer(student.stages[-depth:], teacher.stages[-depth:])
