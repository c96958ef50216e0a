"""CORSD's relation networks: one per stage, training only (Yu et al., 2023, section 2 and Fig. 1b).

Each takes the maps of two images at one depth of the backbone and says how far apart the two are. The paper draws
the parts without sizes; sizes and layers here are the released code's (github.com/muzhou-yu/CORSD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.errors import UserError, unknown
from classmates.networks.heads.pair_projection import FeatureProjection, Projection, scaled

Activation = Literal["sigmoid", "none"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "none": nn.Identity}


class RelationalInteraction(nn.Module):
    """The relational interaction block: a pair's feature → its relation R, a learned distance between the two images.

    Linear, BN, ReLU, Linear to one number, activation. Forward: [P, in_features] → R [P], float32.

    Args:
        in_features: size of a pair's feature.
        hidden: width of the layer in between.
        activation: "sigmoid" keeps R within 0..1 (the released code's; the paper does not say); "none" leaves it
            unbounded, so that the triplet loss's margin can bite.
    """

    def __init__(self, in_features: int, hidden: int, *, activation: Activation = "sigmoid") -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise unknown("activation", activation, _ACTIVATIONS)
        self.layers = nn.Sequential(
            nn.Linear(in_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 1),
        )
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, pairs: Tensor) -> Tensor:
        hidden, last = self.layers[:-1](pairs), self.layers[-1]
        assert isinstance(last, nn.Linear)
        # Relations differ by hundredths, which half precision would round away.
        with torch.autocast(pairs.device.type, enabled=False):
            relations = F.linear(hidden.float(), last.weight.float(), last.bias.float())
        return self.activation(relations).squeeze(-1)


class Relations(NamedTuple):
    """One relation network's outputs of B triplets.

    positive, negative: R_p and R_n, [B]. positive_logits, negative_logits: the auxiliary classifiers', [B, K].
    """

    positive: Tensor
    negative: Tensor
    positive_logits: Tensor
    negative_logits: Tensor


class FeatureDistance(nn.Module):
    """The L2 norm between pooled maps, in a relation network's place in the paper's ablation +RD.

    Nothing is learned, and there are no auxiliary classifiers: their logits are those of no classes.
    """

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Relations:
        """Return the relations of B triplets, from a stage's maps, each [B, C, H, W], which go together by row."""
        o, p, n = (maps.float().mean((2, 3)) for maps in (anchor, positive, negative))
        near, far = (torch.linalg.vector_norm(o - other, dim=1) for other in (p, n))
        return Relations(near, far, o[:, :0], o[:, :0])


class RelationNetwork(nn.Module):
    """One stage's projection, interaction block and auxiliary classifiers, for its positive and negative pairs.

    A pair map is the anchor's map and the other image's, stacked over channels in this order: Φ(o, x) ≠ Φ(x, o).
    Hidden layers are 2 C_1 wide in the interaction blocks of shallow stages and 4 C_1 in the deepest one's.

    Args:
        channels: C_1, ..., C_k, the channels of every stage that has a relation network, shallow to deep; any
            widths, k ≥ 2.
        stage: which of them this one is for, 0 the shallowest.
        num_classes: K.
        activation: of the relation, see ``RelationalInteraction``.
        shared_classifier: one auxiliary classifier for both kinds of pairs, as in the released code; the paper
            writes two.
        together: positive and negative pairs go through as one batch of 2B, hence share BatchNorm's statistics; the
            released code runs them one after the other, each with its own.
        projection: layers of the feature projection: "separable" (released), "plain" or "reduced"; see
            ``FeatureProjection``.
        width: factor on every width inside, the projected feature's too; no layer gets narrower than 8. What the
            backbone sets stays: the first convolution's input and, at the deepest stage, Z.

    Parameters of all stages' relation networks, 100 classes, two classifiers each, in millions; separable at width 1
    is the released size, which at bottleneck backbones outweighs the backbone itself:

    =================  ==========  =========  ==========  =====  =======
    backbone           separable   width 0.5  width 0.25  plain  reduced
    =================  ==========  =========  ==========  =====  =======
    ResNet-18 (11.2)   4.3         1.6        0.7          18.3  1.6
    ResNet-50 (23.7)   58.8        18.4       6.8         282.8  7.9
    =================  ==========  =========  ==========  =====  =======

    Raises:
        UserError: fewer than two stages, a stage that is none of them, or a width that is not positive.
    """

    def __init__(
        self,
        channels: Sequence[int],
        stage: int,
        num_classes: int,
        *,
        activation: Activation = "sigmoid",
        shared_classifier: bool = False,
        together: bool = True,
        projection: Projection = "separable",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise UserError(
                f"the deepest stage teaches relations to shallower ones: {len(channels)} given, name 2 stages or more"
            )
        if not 0 <= stage < len(channels):
            raise UserError(
                f"stage is {stage}, but there are {len(channels)}: they count from 0 to {len(channels) - 1}"
            )
        if width <= 0:
            raise UserError(f"width is {width}, but it multiplies the relation networks' layers: give one above 0")
        deepest = stage == len(channels) - 1
        self.together = together
        self.projection = FeatureProjection([2 * c for c in channels[stage:]], projection, width=width)
        features = self.projection.out_features
        hidden = scaled((4 if deepest else 2) * channels[0], width)
        self.interaction = RelationalInteraction(features, hidden, activation=activation)
        self.positive_classifier = nn.Linear(features, num_classes)
        self.negative_classifier = self.positive_classifier if shared_classifier else nn.Linear(features, num_classes)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Relations:
        """Return the relations of B triplets, from this stage's maps, each [B, C, H, W], which go together by row."""
        pairs = self.projection.first(anchor, positive, negative)
        z = self._of_pairs(self.projection.rest, pairs)
        (z_p, z_n), (r_p, r_n) = z.chunk(2), self._of_pairs(self.interaction, z).chunk(2)
        return Relations(r_p, r_n, self.positive_classifier(z_p), self.negative_classifier(z_n))

    def _of_pairs(self, layers: Callable[[Tensor], Tensor], pairs: Tensor) -> Tensor:
        """Take all pairs at once, or the positive and then the negative ones."""
        return layers(pairs) if self.together else torch.cat([layers(kind) for kind in pairs.chunk(2)])
