"""PCL: peer collaborative learning for online knowledge distillation (Wu and Gong, AAAI 2021)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError, check_choice
from classmates.losses.ramps import ramped, sigmoid_ramp
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Method, Views
from classmates.methods.checks import check_ramp, check_share, check_temperature
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.peers.mean_peers import MeanPeers
from classmates.networks.peers.peers import BranchStart, Peers


class PCL(Method):
    """Branches, each with an augmentation of its own, learn from an ensemble head and from the others' mean teachers.

    L = CE(z_E, y) + Σ_m CE(z_m, y) + r(t) T² Σ_m [u KL(p_E ‖ p_m) + v 1/(M−1) Σ_{j≠m} KL(p̄_j ‖ p_m)], with z_E a
    linear layer on all peers' embeddings side by side, p̄_j the prediction of peer j's running mean of the weights,
    for peer j's view of the image, and r the ramp, exp(−5 (1 − t/ramp)²) up to epoch ``ramp``.

    The ensemble head learns from the ensemble's cross-entropy alone: as a teacher it is held constant. The mean
    teachers follow the weights and no BatchNorm statistics, and normalise by the batch. The published network is one
    of them: ``--ema 0.999`` makes the student such a mean, BatchNorm statistics included.

    Args:
        peers: M, branches, the student included; 3.
        share: -1 shares all but the last stage (paper).
        views: "own" (paper) or "shared", the ablation without input ensembling.
        temperature: T, softens both sides; 3.
        ensemble: u, weight of the distillation from the ensemble head (the paper's peer ensemble teacher).
        mean_teachers: v, weight of the distillation from the other peers' means (peer mean teacher).
        standardise: take each sample's logits as z-scores in both distillations (see ``softened_kl``).
        ramp: epochs over which both grow to their full size; 80.
        decay: of the running means; 0.999.
        start: "fresh" branches have weights of their own; "same" begins from the student's (pretrained networks).

    Raises:
        UserError: fewer than 2 peers, a temperature not above 0, a negative ramp, a ``decay`` outside 0..1, and what
            ``Peers`` refuses.
    """

    about = About(
        "online",
        2021,
        4.1,
        needs="another augmentation of each image for every peer",
        search={"ensemble": (0.3, 1, 3), "mean_teachers": (0.3, 1, 3)},
    )
    mixes: ClassVar[bool] = True
    lengths: ClassVar[tuple[str, ...]] = ("ramp",)

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 3,
        share: int | str = -1,
        views: Views = "own",
        temperature: float = 3.0,
        ensemble: float = 1.0,
        mean_teachers: float = 1.0,
        standardise: bool = False,
        ramp: int = 80,
        decay: float = 0.999,
        start: BranchStart = "fresh",
    ):
        if peers < 2:
            raise UserError(f"peers={peers}: an ensemble needs at least 2 branches")
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        check_choice("start", start, BranchStart)
        check_ramp(ramp=ramp)
        check_share(decay=decay)
        networks = Peers(network, data, peers, share=share, start=start)
        distillations = {"ensemble": ensemble, "mean_teachers": mean_teachers}
        super().__init__(
            networks,
            data,
            weights={"ensemble_ce": 1.0, **{name: kl_weight(w, temperature) for name, w in distillations.items()}},
            ramps=ramped(distillations, sigmoid_ramp, ramp),
            views=views,
        )
        self.temperature = temperature
        self.standardise = standardise
        self.ramp = ramp
        self.head = nn.Linear(peers * networks.architecture.embedding, data.num_classes)
        self.means = MeanPeers(networks, decay) if mean_teachers else None  # a copy of every peer

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        logits = stack_logits(outputs)
        ensemble = self.ensemble(outputs)
        kl = partial(softened_kl, temperature=self.temperature, standardise=self.standardise)
        return {
            "ensemble_ce": lambda: self.task.cross_entropy(ensemble[None], batch),
            # Means over all peers' samples, times their number: the paper sums over peers.
            "ensemble": lambda: len(logits) * kl(logits, ensemble),
            "mean_teachers": lambda: len(logits) * kl(*beside_others(logits, self.mean_logits(batch))),
        }

    def ensemble(self, outputs: list[NetworkOutput]) -> Tensor:
        """Return the logits of the layer on all peers' embeddings, [B, K]."""
        return self.head(torch.cat([output.embedding for output in outputs], dim=1))

    def mean_logits(self, batch: Batch) -> Tensor:
        """Return the mean teachers' logits, [M, B, K], each of its own view, after they have followed the peers."""
        assert self.means is not None  # the term has a weight
        if self.training and self.begins_step:
            self.means.follow(self.networks)
        return stack_logits(self.means(batch))

    def predictions(self, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return the same as for every method, with the ensemble head in place of the mean."""
        return {**super().predictions(outputs), "ensemble": self.ensemble(outputs)}


def beside_others(logits: Tensor, teachers: Tensor) -> tuple[Tensor, Tensor]:
    """Return each peer's logits M − 1 times, and beside them those of all teachers but its own.

    logits, teachers: [M, B, K]. Returns two of [M, M − 1, B, K].
    """
    peers = len(logits)
    everyone = torch.arange(peers, device=logits.device)
    others = (everyone[:, None] + everyone[1:]) % peers
    return logits[:, None].expand(-1, peers - 1, -1, -1), teachers[others]
