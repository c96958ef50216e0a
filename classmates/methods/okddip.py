"""OKDDip: online knowledge distillation with diverse peers (Chen et al., AAAI 2020)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.peers import ensemble_logits, float32_einsum
from classmates.losses.ramps import ramped, sigmoid_ramp
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_ramp, check_temperature, check_weight
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.heads.initialisation import Initialisation, initialise_like
from classmates.networks.peers.peers import BranchStart, Peers


class PeerAttention(nn.Module):
    """The shares of the auxiliary peers in each one's target, image by image: softmax over b of (W_q h_a)·(W_k h_b)
    (eq. 6).

    Forward: embeddings [M, B, D] → weights [B, M, M], row a the shares in peer a's target, float32.

    Args:
        features: D. The queries and keys have an eighth of it.
    """

    def __init__(self, features: int):
        super().__init__()
        self.query = nn.Linear(features, max(1, features // 8), bias=False)
        self.key = nn.Linear(features, max(1, features // 8), bias=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        return float32_einsum("abd,cbd->bac", self.query(embeddings), self.key(embeddings)).softmax(-1)


class OKDDip(Method):
    """Auxiliary peers learn from mixtures of each other, and the leader, the student, from the mean of all of them.

    L = Σ_m CE(z_m, y) + w r(t) T² [Σ_a KL(t_a ‖ p_a) + KL(mean of p_a ‖ p_leader)] over auxiliary peers a, whose
    targets t_a weigh them by attention; r is the ramp (eq. 5 to 8).

    Args:
        peers: M, the leader included; 4.
        share: -1 shares all but the last stage (the paper's branch-based form), "nothing" trains whole networks (its
            network-based form).
        temperature: T, softens both sides; 3.
        distillation: w, weight of both distillations.
        standardise: take each sample's logits as z-scores in both (``losses/soft_targets.py``).
        ramp: epochs over which that weight grows to its full size; 80.
        detach: hold targets constant. The paper reads so, but then nothing would train the attention: as in the
            released code, gradients flow through the targets by default.
        start: "fresh" peers have weights of their own; "same" begins from the student's (pretrained networks).
        initialisation: the attention's first weights, drawn by the rule of the backbone's own layers ("released") or
            as "torch" does; they differ for VGG.

    The paper mixes softened probabilities (eq. 5), the released code logits: logits here.

    Raises:
        UserError: fewer than 3 peers, a temperature not above 0, a negative weight or ramp, a word that is none
            of an option's, and what ``Peers`` refuses.
    """

    about = About("online", 2020, 1.7, search={"distillation": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True
    lengths: ClassVar[tuple[str, ...]] = ("ramp",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 4,
        share: int | str = -1,
        temperature: float = 3.0,
        distillation: float = 1.0,
        standardise: bool = False,
        ramp: int = 80,
        detach: bool = False,
        start: BranchStart = "fresh",
        initialisation: Initialisation = "released",
    ):
        if peers < 3:
            raise UserError(f"peers={peers}: a leader and at least 2 auxiliary peers make 3")
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        check_choice("start", start, BranchStart)
        check_ramp(ramp=ramp)
        check_weight(distillation=distillation)
        check_choice("initialisation", initialisation, Initialisation)
        networks = Peers(network, data, peers, share=share, start=start)
        distillations = ("peer_distillation", "leader_distillation")
        super().__init__(
            networks,
            data,
            weights=dict.fromkeys(distillations, kl_weight(distillation, temperature)),
            ramps=ramped(distillations, sigmoid_ramp, ramp),
        )
        self.kl = partial(softened_kl, temperature=temperature, standardise=standardise, detach_teacher=detach)
        self.ramp = ramp
        self.attention = PeerAttention(networks.architecture.embedding).requires_grad_(not detach)
        if initialisation == "released":
            initialise_like(network, self.attention)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = stack_logits(outputs)
        return {
            "peer_distillation": lambda: self.peer_distillation(outputs[:-1]),
            "leader_distillation": lambda: self.kl(logits[-1], ensemble_logits(logits[:-1])),
        }

    def peer_distillation(self, auxiliaries: list[NetworkOutput]) -> Tensor:
        """Return Σ_a KL(t_a ‖ p_a), the target t_a a mixture of all auxiliary peers' logits (eq. 5, 7)."""
        logits = stack_logits(auxiliaries)
        attention = self.attention(torch.stack([output.embedding for output in auxiliaries]))
        targets = float32_einsum("bac,cbk->abk", attention, logits)
        return len(logits) * self.kl(logits, targets)
