"""MCL in the batch (Yang et al., "Mutual Contrastive Learning for Visual Representation Learning", AAAI 2022).

Peers find images of one class in each other's embeddings of the batch, and agree on which images are alike. The
images to compare with are those of the batch: no memory bank, no sample indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import ClassUniform
from classmates.errors import UserError
from classmates.losses.in_batch import hard_terms, similarities, soft_across, soft_within
from classmates.losses.peers import ensemble_logits
from classmates.losses.soft_targets import check_standardise, kl_weight, softened_kl
from classmates.methods.about import About
from classmates.methods.base import Deploy, Method, Views
from classmates.methods.checks import check_temperature
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.heads.projections import UnitProjections
from classmates.networks.memory.gather import gather, gather_with_gradient
from classmates.networks.peers.peers import Peers, Start


class MCLBatch(Method):
    """Peers contrast the images of a batch by their classes, within and across peers, and agree on the similarities.

    L = Σ_m CE(z_m, y) + α VCL + γ T² softVCL + β ICL + λ T² softICL + w T² KL(p_e ‖ ·), each a sum over all peers or
    all ordered pairs of them; the last term, which the paper combines it with, teaches both of two peers, and
    the student alone of more, by the softened mean of their logits.

    Where training begins from trained weights, what is not chosen is start "identical", views "own".

    Args:
        peers: M, the student included: 2 and 4 in the paper.
        share: "nothing" trains whole networks (two peers, as released); -2 shares all but the last two stages (four).
        peer_models: other architectures (names or modules) for the peers, ``peers`` - 1 of them; they share nothing.
        start: "fresh" peers have weights of their own; "same" begins from the student's (pretrained networks);
            "identical" also with its classifier.
        deploy: "average" scores and deploys the average of all peers' weights; "auto" does so where they began
            "identical", and else takes the student.
        views: "own" shows every peer another augmentation of each image.
        within: α, weight of the contrast within each peer (VCL).
        soft_within: γ, weight of the agreement on the similarities within a peer (soft VCL).
        across: β, weight of the contrast across peers (ICL).
        soft_across: λ, weight of the agreement on the similarities across peers (soft ICL).
        distillation: w, weight of the distillation from the ensemble's logits; 0 leaves it out, as the paper's own
            method does, 1 is its combination with it.
        standardise: take each sample's logits as z-scores in the distillation (see ``softened_kl``).
        temperature: T, softens both sides of all KL terms; 3.
        contrast_temperature: τ; 0.1 on CIFAR-100 and 0.07 on ImageNet in the paper, 0.07 in the released scripts.
        dimension: d, size of the embeddings; 128.

    Raises:
        UserError: fewer than 2 peers, temperatures not above 0, a dimension below 1, and what ``Peers`` refuses.
    """

    about = About(
        "online",
        2022,
        1.9,
        needs="batches of two images a class",
        search={"within": (0.03, 0.1, 0.3), "across": (0.03, 0.1, 0.3)},
    )
    fine_tuning: ClassVar[Mapping[str, Any]] = {"start": "identical", "views": "own"}

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        peers: int = 2,
        share: int | str = "nothing",
        peer_models: Sequence[str | nn.Module] = (),
        start: Start = "fresh",
        deploy: Deploy = "auto",
        views: Views = "shared",
        within: float = 0.1,
        soft_within: float = 1.0,
        across: float = 0.1,
        soft_across: float = 1.0,
        distillation: float = 0.0,
        standardise: bool = False,
        temperature: float = 3.0,
        contrast_temperature: float = 0.1,
        dimension: int = 128,
    ):
        if peers < 2:
            raise UserError(f"peers={peers}: mutual contrastive learning needs at least 2")
        check_temperature(temperature=temperature, contrast_temperature=contrast_temperature)
        check_standardise(standardise, data.num_classes)
        networks = Peers(network, data, peers, share=share, start=start, peer_models=peer_models)
        weights = {
            "within": within,
            "soft_within": kl_weight(soft_within, temperature),
            "across": across,
            "soft_across": kl_weight(soft_across, temperature),
            "distillation": kl_weight(distillation, temperature),
        }
        super().__init__(
            networks,
            data,
            weights,
            classifier=distillation > 0,
            prefers=ClassUniform(2),
            views=views,
            deploy=deploy,
        )
        self.temperature = temperature
        self.standardise = standardise
        self.contrast_temperature = contrast_temperature
        widths = [architecture.embedding for architecture in networks.architectures]
        self.projections = UnitProjections(widths, dimension, hidden=True)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        embeddings = cache(lambda: gather_with_gradient(self.projections(outputs), dim=1))
        similarity = cache(lambda: similarities(embeddings(), self.contrast_temperature))
        hard = cache(lambda: hard_terms(similarity(), gather(batch.labels)))
        return {
            "within": lambda: hard()[0],
            "soft_within": lambda: soft_within(similarity(), self.temperature),
            "across": lambda: hard()[1],
            "soft_across": lambda: soft_across(similarity(), self.temperature),
            "distillation": lambda: self.distillation(stack_logits(outputs)),
        }

    def tells_peers_apart(self) -> bool:
        contrasts = ("within", "soft_within", "across", "soft_across")  # each peer has a projection of its own
        return any(self.weights[name] for name in contrasts)

    def against_mixing(self) -> str:
        return "it contrasts images of one class with those of others"

    def distillation(self, logits: Tensor) -> Tensor:
        """Return KL(ensemble ‖ peer), summed over both of two peers, of the student alone where there are more."""
        learners = logits if len(logits) == 2 else logits[-1:]
        kl = softened_kl(learners, ensemble_logits(logits), self.temperature, standardise=self.standardise)
        return len(learners) * kl
