"""Deep mutual learning (Zhang et al., CVPR 2018): peers trained from scratch teach each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.errors import UserError
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Deploy, Method, Views
from classmates.methods.checks import check_temperature
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.peers.peers import Peers, Start


def mutual_kl(logits: Tensor, temperature: float, *, standardise: bool = False) -> Tensor:
    """Return Σ_i 1/(M−1) Σ_{j≠i} KL(p_j ‖ p_i) without T², p_j held constant (eq. 6), all pairs in one call.

    logits: [M, B, K], one row of peers. standardise: see ``softened_kl``. Returns a scalar, summed over classes,
    averaged over the batch.
    """
    peers = len(logits)
    # Each of the M² pairs weighs 1/M² in the mean; a peer's divergence from itself is 0.
    pairs = logits[:, None].expand(-1, peers, -1, -1)
    return peers**2 / (peers - 1) * softened_kl(pairs, logits[None], temperature, standardise=standardise)


class DML(Method):
    """Every peer learns from the labels and from what every other peer predicts.

    L = Σ_i [CE(z_i, y) + w T² / (M − 1) Σ_{j≠i} KL(p_j ‖ p_i)] over M peers (eq. 6 at T = 1 and w = 1).

    All peers take their step together, from predictions of the same moment; in the paper and its code they take
    turns. The code adds up the divergences from all other peers, the paper averages them (eq. 6): averaged here.

    Where training begins from trained weights, what is not chosen is start "identical", views "own".

    Args:
        peers: how many networks; more helps the ensemble more than the student.
        temperature: softens both sides; 1 in the paper, 2 in MCL-OKD's comparison.
        mutual: w, weight of the mutual term.
        standardise: take each sample's logits as z-scores in the mutual term (``losses/soft_targets.py``).
        share: what peers share of the student. "nothing" (paper) trains whole networks; MCL-OKD's comparison shares
            all but the last two stages, -2.
        peer_models: other architectures (names or modules) to be the peers, as many as ``peers`` - 1.
        start: "fresh" peers have weights of their own; "same" begins from the student's (pretrained networks);
            "identical" also with its classifier.
        views: "own" shows each peer its own augmentation of the images.
        deploy: "average" scores and deploys the average of all peers' weights; "auto" does so where they began
            "identical", and else takes the student.

    Raises:
        UserError: fewer than 2 peers, a temperature not above 0, and what ``Peers`` refuses.
    """

    about = About("online", 2018, 1.8, search={"mutual": (0.3, 1, 3)})
    mixes: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {"helpers": "peer_models"}
    fine_tuning: ClassVar[Mapping[str, Any]] = {"start": "identical", "views": "own"}

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 2,
        temperature: float = 1.0,
        mutual: float = 1.0,
        standardise: bool = False,
        share: int | str = "nothing",
        peer_models: Sequence[str | nn.Module] = (),
        start: Start = "fresh",
        views: Views = "shared",
        deploy: Deploy = "auto",
    ):
        if peers < 2:
            raise UserError(f"peers={peers}: mutual learning needs at least 2")
        check_temperature(temperature=temperature)
        check_standardise(standardise, data.num_classes)
        networks = Peers(network, data, peers, share=share, peer_models=peer_models, start=start)
        super().__init__(
            networks, data, weights={"mutual": kl_weight(mutual, temperature)}, views=views, deploy=deploy
        )
        self.temperature = temperature
        self.standardise = standardise

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"mutual": lambda: mutual_kl(stack_logits(outputs), self.temperature, standardise=self.standardise)}
