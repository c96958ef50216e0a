"""CL-ILR: collaborative learning for deep neural networks (Song and Chai, NeurIPS 2018)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import check_choice
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_share, check_temperature
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.peers.peers import BranchStart
from classmates.networks.peers.tree import PeerTree


def consensus_kl(logits: Tensor, temperature: float, *, standardise: bool = False) -> Tensor:
    """Return Σ_h KL(consensus of the other heads ‖ p_h) without T² (eq. 3, 4); the consensus is held constant.

    The consensus is the mean of the other heads' logits, softened. logits: [M, B, K]. standardise: see
    ``softened_kl``. Returns a scalar, float32.
    """
    logits = logits.float()
    heads = len(logits)
    others = (logits.sum(0, keepdim=True) - logits) / (heads - 1)
    return heads * softened_kl(logits, others, temperature, standardise=standardise)


class CLILR(Method):
    """Heads on a binary tree of shared stages learn from the labels and from the consensus of all other heads.

    L = β Σ_h CE(z_h, y) + (1 − β) T² Σ_h KL(q_h ‖ p_h), q_h the softened mean of the other heads' logits (eq. 4).

    The gradient is divided by two wherever two branches meet, so that shared stages are not trained at many times the
    pace of one network. MCL-OKD's released ensemble of this method averages all heads but the last; here, all.

    Args:
        peers: heads, a power of two; 4.
        hard: β, the weight of the labels; the consensus has 1 - β. 0.5.
        temperature: T, softens both sides; 2.
        standardise: take each sample's logits as z-scores in that distillation (``losses/soft_targets.py``).
        start: "fresh" branches have weights of their own; "same" begins from the student's (pretrained networks).

    Raises:
        UserError: a number of peers that is no power of two or more than the stages allow, β outside 0..1, or a
            temperature not above 0.
    """

    about = About("online", 2018, 2.2, search={"hard": (0.3, 0.5, 0.7)})
    mixes: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 4,
        hard: float = 0.5,
        temperature: float = 2.0,
        standardise: bool = False,
        start: BranchStart = "fresh",
    ):
        check_share(hard=hard)
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        check_choice("start", start, BranchStart)
        super().__init__(
            PeerTree(network, data, peers, start=start),
            data,
            weights={"consensus": kl_weight(1 - hard, temperature)},
            labels=hard,
        )
        self.temperature = temperature
        self.standardise = standardise

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = stack_logits(outputs)
        return {"consensus": lambda: consensus_kl(logits, self.temperature, standardise=self.standardise)}
