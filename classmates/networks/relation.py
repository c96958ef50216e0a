"""CORSD's relation networks: one per stage, training only (Yu et al., 2023, section 2 and Fig. 1b).

Each looks at the maps of two images at one depth of the backbone and says how far apart the two are. The paper draws
the parts without sizes; sizes and layers here are the released code's (github.com/muzhou-yu/CORSD).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from classmates.errors import UserError, unknown

Activation = Literal["sigmoid", "none"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "none": nn.Identity}


def _scaled(width: int, factor: float) -> int:
    return max(round(width * factor), min(width, 8))


class SepConv(nn.Sequential):
    """Two depthwise-separable convolutions that halve the resolution; also SD's projection unit.

    Depthwise 3x3 of stride 2, pointwise to ``hidden_channels``, BN, ReLU; depthwise 3x3, pointwise to
    ``out_channels``, BN, ReLU. No convolution has a bias. ``hidden_channels`` is ``in_channels`` by default, as
    released. [B, in_channels, H, W] → [B, out_channels, ⌈H/2⌉, ⌈W/2⌉].
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int | None = None) -> None:
        hidden = in_channels if hidden_channels is None else hidden_channels
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class FeatureProjection(nn.Module):
    """The feature projection layer: pair maps of one stage → the projected pair feature Z.

    One ``SepConv`` per step from this stage to the deepest, then global average pooling; the deepest stage is only
    pooled. Maps may be of any size, down to 1x1. Forward: [P, widths[0], H, W] → Z [P, out_features].

    Args:
        widths: the channels of the pair maps at this stage and at every deeper one, 2C_i, ..., 2C_k.
        width: factor on every width but the first, which the backbone sets; see ``RelationNetwork``.
    """

    def __init__(self, widths: Sequence[int], *, width: float = 1.0) -> None:
        super().__init__()
        scaled = [_scaled(channels, width) for channels in widths]
        inputs = [widths[0], *scaled[1:]]
        self.convolutions = nn.Sequential(
            *(SepConv(inputs[i], inputs[i + 1], hidden_channels=scaled[i]) for i in range(len(widths) - 1))
        )
        self.out_features = inputs[-1]

    def forward(self, pairs: Tensor) -> Tensor:
        return self.convolutions(pairs).mean(dim=(2, 3))


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
        # Relations differ by hundredths: half precision would round the sigmoid's differences away.
        return self.activation(self.layers(pairs).float()).squeeze(-1)


class Relations(NamedTuple):
    """What one relation network makes of B triplets.

    positive, negative: R_p and R_n, [B]. positive_logits, negative_logits: the auxiliary classifiers', [B, K].
    """

    positive: Tensor
    negative: Tensor
    positive_logits: Tensor
    negative_logits: Tensor


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
        width: factor on every width inside, the projected feature's too; no layer gets narrower than 8. What the
            backbone sets stays: the first convolution's input and, at the deepest stage, Z. 1 is the released code's
            size, which at bottleneck backbones outweighs the backbone itself:

    Parameters of all stages' relation networks, 100 classes, two classifiers each:

    ==========================  =======  =========  ==========
    backbone                    width 1  width 0.5  width 0.25
    ==========================  =======  =========  ==========
    ResNet-18 (11.2 M)          4.3 M    1.6 M      0.7 M
    ResNet-50 (23.7 M)          58.8 M   18.4 M     6.8 M
    ==========================  =======  =========  ==========

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
        self.projection = FeatureProjection([2 * c for c in channels[stage:]], width=width)
        features = self.projection.out_features
        hidden = _scaled((4 if deepest else 2) * channels[0], width)
        self.interaction = RelationalInteraction(features, hidden, activation=activation)
        self.positive_classifier = nn.Linear(features, num_classes)
        self.negative_classifier = self.positive_classifier if shared_classifier else nn.Linear(features, num_classes)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Relations:
        """This stage's maps of B triplets, each [B, C, H, W]: row b of the three belongs together."""
        positive_pairs = torch.cat([anchor, positive], dim=1)
        negative_pairs = torch.cat([anchor, negative], dim=1)
        if self.together:
            z = self.projection(torch.cat([positive_pairs, negative_pairs]))
            (z_p, z_n), (r_p, r_n) = z.chunk(2), self.interaction(z).chunk(2)
        else:
            z_p, z_n = self.projection(positive_pairs), self.projection(negative_pairs)
            r_p, r_n = self.interaction(z_p), self.interaction(z_n)
        return Relations(r_p, r_n, self.positive_classifier(z_p), self.negative_classifier(z_n))
