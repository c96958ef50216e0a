"""Label smoothing (Szegedy et al., CVPR 2016): a control, what softer targets alone give."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.peers.peers import Peers


class LabelSmoothing(Method):
    """Cross-entropy with (1 − ε) · one-hot + ε / K as the targets, in place of the labels' own.

    Args:
        epsilon: ε, the share of the target that is spread evenly over all K classes; 0.1 in the paper.

    Raises:
        UserError: an ``epsilon`` outside 0..1, or 1, which leaves nothing of the labels; or a task without
            cross-entropy.
    """

    about = About("control", 2016, 1.1, search={"epsilon": (0.05, 0.1, 0.2)})
    mixes: ClassVar[bool] = True

    def __init__(self, network: nn.Module, data: DataSpec, *, epsilon: float = 0.1):
        if not 0 <= epsilon < 1:
            raise UserError(f"epsilon={epsilon}: it lies between 0 (no smoothing) and below 1 (no labels)")
        super().__init__(Peers(network, data), data)
        self.require_cross_entropy()
        self.epsilon = epsilon

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = stack_logits(outputs)
        return {"ce": lambda: self.task.cross_entropy(logits, batch, label_smoothing=self.epsilon)}
