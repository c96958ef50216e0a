"""CORSD: class-oriented relational self distillation (Yu et al., ICASSP 2023).

Images come as triplets: an anchor, another image of its class, an image of another class. At every depth a trainable
relation network looks at the pairs and says how far apart they are; shallow depths learn from the deepest one.
Where paper and released code differ or are silent, the options say which of them the default follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.data.batches.sampling import Triplets
from classmates.errors import UserError, check_choice, check_finite
from classmates.losses.corsd import (
    BatchReduction,
    auxiliary_distillation,
    auxiliary_task,
    logit_calibration,
    pair_targets,
    relation_distillation,
    triplet_relation,
)
from classmates.losses.soft_targets import Reduction, check_standardise, kl_weight
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.methods.checks import check_share, check_temperature, check_weight
from classmates.models.blocks import kaiming_fan_out, zero_bias
from classmates.networks.heads.initialisation import Initialisation
from classmates.networks.heads.pair_projection import Projection
from classmates.networks.heads.relation_network import (
    Activation,
    FeatureDistance,
    RelationalInteraction,
    RelationNetwork,
    Relations,
)
from classmates.networks.memory.gather import gather_with_gradient
from classmates.networks.peers.peers import Peers

Relation = Literal["learned", "distance"]


class CORSD(Method):
    """The deepest stage teaches the shallow ones how images of one class and of two relate (equations 1 to 4).

    L = CE(z, y) + α L_triplet + β L_relation + σ L_calibration + Σ over positive and negative pairs of
    γ [(1 − λ) L_task + λ L_distillation].

    Args:
        alpha: α, weight of the triplet loss over relations (Eq. 1).
        beta: β, weight of the relation distillation from the deepest stage (Eq. 2).
        sigma: σ, weight of the logit calibration.
        gamma_p: γp, weight of the positive auxiliary classifiers (Eq. 3 and 4).
        gamma_n: γn, weight of the negative auxiliary classifiers.
        lam: λ, share of logit distillation in the auxiliary classifiers' loss; the rest is their task.
        margin: m of the triplet loss. While relations are sigmoids, a margin of 1 never lets the hinge rest.
        depths: how many stages, from the deepest, have a relation network; a backbone with fewer uses all it has.
        relation: "learned" by relation networks, or "distance", the L2 norm between pooled maps, which needs none and
            has no auxiliary classifiers (γ = 0), so that their options mean nothing; with alpha=0 and sigma=0 it is
            the paper's ablation +RD.
        projection: layers that take the maps of a pair to its feature: "separable" (released), "plain" 3x3
            convolutions, or "reduced", plain with 64 channels first: it costs least and was no less accurate.
        width: factor on the relation networks' widths; 1 is the size of the projection, 0.25 tames a separable one,
            whose released size is 57 M parameters on bottleneck nets.
        temperature: of the auxiliary distillation. The paper gives none; 3 is what its group uses elsewhere.
        scale: multiplies that distillation by T²; the group's code does not.
        standardise: take each pair's logits as z-scores in it (``losses/soft_targets.py``).
        kl_reduction: "batchmean" sums over classes, as in distillation elsewhere; "mean" divides by their number
            (released).
        detach_deepest: the deepest stage teaches and is not taught (paper); the released code lets gradients through.
        activation: of the stages' relations: "sigmoid" (released; the paper does not say) or "none". Those of the
            logits always have a sigmoid.
        shared_classifier: one auxiliary classifier a depth for both kinds of pairs (released) instead of two (paper).
        pairs_together: positive and negative pairs pass the relation networks as one batch, so that BatchNorm sees
            both; the released code passes them apart. Pairs of logits always pass as one.
        calibration_reduction: "mean" over the triplets, or "sum", which weighs the batch size more (released).
        disjoint: each image is in one triplet an epoch at most (paper); otherwise every image is an anchor once and
            its partners are drawn at random (released, three times the image passes an epoch).
        initialisation: the relation networks' convolutions begin Kaiming-normal by their outputs, and the deepest
            one's biases at 0, as in the "released" code, or all as "torch" draws them.

    Raises:
        UserError: fewer than 2 stages or ``depths``, a ``lam`` outside 0..1, a temperature or width not above 0,
            a weight below 0, words that are none of an option's, auxiliary classifiers beside ``relation``
            "distance", or a task that needs batches of its own.
    """

    about = About(
        "self",
        2023,
        1.1,
        needs="batches of triplets of images",
        search={"alpha": (0.003, 0.01, 0.03), "beta": (0.003, 0.01, 0.03)},
    )

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        alpha: float = 0.01,
        beta: float = 0.01,
        sigma: float = 0.01,
        gamma_p: float = 0.2,
        gamma_n: float = 0.05,
        lam: float = 0.8,
        margin: float = 1.0,
        depths: int = 4,
        relation: Relation = "learned",
        projection: Projection = "reduced",
        width: float = 1.0,
        temperature: float = 3.0,
        scale: bool = False,
        standardise: bool = False,
        kl_reduction: Reduction = "batchmean",
        detach_deepest: bool = True,
        activation: Activation = "sigmoid",
        shared_classifier: bool = False,
        pairs_together: bool = True,
        calibration_reduction: BatchReduction = "mean",
        disjoint: bool = True,
        initialisation: Initialisation = "released",
    ):
        if depths < 2:
            raise UserError(f"depths={depths}: the deepest stage needs at least one shallower to teach, so 2 or more")
        check_share(lam=lam)
        check_temperature(temperature=temperature)
        check_weight(alpha=alpha, beta=beta, sigma=sigma, gamma_p=gamma_p, gamma_n=gamma_n)
        check_finite("width", width)
        if not 0 <= margin < math.inf:
            raise UserError(f"margin={margin}: how much further apart relations are to be, 0 or more, and finite")
        check_standardise(standardise, data.num_classes)
        check_choice("relation", relation, Relation)
        if relation == "distance" and (gamma_p or gamma_n):
            raise UserError("relation='distance' has no auxiliary classifiers: give gamma_p=0 and gamma_n=0")
        check_choice("kl_reduction", kl_reduction, Reduction)
        check_choice("calibration_reduction", calibration_reduction, BatchReduction)
        check_choice("initialisation", initialisation, Initialisation)
        super().__init__(
            Peers(network, data),
            data,
            weights={
                "triplet": alpha,
                "relation": beta,
                "positive_task": gamma_p * (1 - lam),
                "positive_distillation": kl_weight(gamma_p * lam, temperature, scale=scale),
                "negative_task": gamma_n * (1 - lam),
                "negative_distillation": kl_weight(gamma_n * lam, temperature, scale=scale),
                "calibration": sigma,
            },
            sampling=Triplets(disjoint=disjoint),
        )
        if detach_deepest and relation == "learned" and beta and not alpha:
            self.note("alpha=0: the deepest relations stay as drawn, and beta has others copy them: give beta=0 too")
        if detach_deepest and lam == 1 and (gamma_p or gamma_n):
            self.note("lam=1: the deepest auxiliary classifiers stay as drawn, and others copy them: give less")
        self.num_classes = data.num_classes
        self.margin = margin
        self.detach_deepest = detach_deepest
        self.distillation = partial(
            auxiliary_distillation,
            temperature=temperature,
            reduction=kl_reduction,
            detach_deepest=detach_deepest,
            standardise=standardise,
        )
        self.calibration_reduction = calibration_reduction
        channels = [stage.channels for stage in self.networks.architecture.stages[-depths:]]
        self.relation_networks = (
            nn.ModuleList(FeatureDistance() for _ in channels)
            if relation == "distance"
            else relation_networks(
                channels,
                data.num_classes,
                initialisation,
                activation=activation,
                shared_classifier=shared_classifier,
                together=pairs_together,
                projection=projection,
                width=width,
            )
        )
        # The released block is one unit wide, which BatchNorm and ReLU leave nearly constant; the paper gives none.
        # Always with its sigmoid: Eq. 4 has no margin, and relations without bounds would be driven apart for ever.
        self.logit_interaction = RelationalInteraction(2 * data.num_classes, 64)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        output = outputs[-1]
        anchor, _, negative = triplets(batch.labels)
        relate = cache(lambda: self.relate(output.stages))
        return {
            "triplet": lambda: triplet_relation(relate().positive, relate().negative, self.margin),
            "relation": lambda: relation_distillation(
                relate().positive, relate().negative, detach_deepest=self.detach_deepest
            ),
            "positive_task": lambda: auxiliary_task(relate().positive_logits, anchor),
            "positive_distillation": lambda: self.distillation(relate().positive_logits),
            "negative_task": lambda: auxiliary_task(
                relate().negative_logits, pair_targets(anchor, negative, self.num_classes)
            ),
            "negative_distillation": lambda: self.distillation(relate().negative_logits),
            "calibration": lambda: logit_calibration(
                *map(gather_with_gradient, self.relate_logits(output.logits)), reduction=self.calibration_reduction
            ),
        }

    def against_mixing(self) -> str:
        return "its triplets are of images of the same class and of another"

    def relate(self, stages: tuple[Tensor, ...]) -> Relations:
        """Return relations and auxiliary logits at every depth, shallow to deep: [k, B] and [k, B, K]."""
        maps = stages[-len(self.relation_networks) :]
        depths = [network(*triplets(stage)) for network, stage in zip(self.relation_networks, maps, strict=True)]
        return Relations(*(torch.stack(parts) for parts in zip(*depths, strict=True)))

    def relate_logits(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return relations [B] of positive and of negative pairs of predictions; softmax bounds what is compared."""
        anchor, positive, negative = triplets(logits.float().softmax(-1))
        pairs = torch.cat([torch.cat([anchor, positive], 1), torch.cat([anchor, negative], 1)])
        first, second = self.logit_interaction(pairs).chunk(2)
        return first, second


def relation_networks(
    channels: Sequence[int], num_classes: int, initialisation: Initialisation, **options: Any
) -> nn.ModuleList:
    """Make a relation network for each stage, shallow to deep; options: as ``RelationNetwork`` has them."""
    networks = [RelationNetwork(channels, stage, num_classes, **options) for stage in range(len(channels))]
    if initialisation == "released":
        for network in networks:
            network.apply(kaiming_fan_out)
        networks[-1].apply(zero_bias)
    return nn.ModuleList(networks)


def triplets(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split [3B, ...], as the sampler orders it, into anchors, positives and negatives, [B, ...] each."""
    if len(tensor) % 3:
        raise UserError(f"a batch of {len(tensor)} images is not made of triplets: use Triplets() for its sampling")
    anchor, positive, negative = tensor.unflatten(0, (-1, 3)).unbind(1)
    return anchor, positive, negative
