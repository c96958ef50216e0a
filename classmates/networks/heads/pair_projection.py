"""From the maps of two images to one feature: CORSD's feature projection layer (Yu et al., 2023, section 2.1).

A pair's map is the anchor's map and the other image's, stacked over channels, in this order. A convolution of stacked
maps is the sum of two convolutions, W [f_o, f_x] = W_1 f_o + W_2 f_x, and a depthwise one acts on each channel alone.
So the first layer here runs once an image, though an anchor is in two pairs, and nothing is ever stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.errors import unknown
from classmates.networks.heads.separable import SepConv, depthwise, norm_relu, separable

Projection = Literal["separable", "plain", "reduced"]
REDUCED = 64  # channels after the first convolution of a reduced projection


def scaled(width: int, factor: float) -> int:
    """``width`` times ``factor``, but no less than 8, or than ``width`` where that is smaller."""
    return max(round(width * factor), min(width, 8))


class PairConvolution(nn.Conv2d):
    """A convolution, without bias, of the maps of pairs, [f_o, f_p] and [f_o, f_n].

    Forward: anchors, positives and negatives, [B, in_channels / 2, H, W] each → [2B, out_channels, H', W'], the
    positive pairs first.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:  # type: ignore[override]
        first, second = self.weight.chunk(2, dim=1)
        convolve = partial(F.conv2d, stride=self.stride, padding=self.padding)
        of_anchor = convolve(anchor, first)
        return torch.cat([of_anchor + convolve(positive, second), of_anchor + convolve(negative, second)])


class SeparablePairConvolution(nn.Module):
    """Depthwise 3x3 of stride 2, then pointwise, of the maps of pairs; shapes as in ``PairConvolution``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = depthwise(in_channels, stride=2)
        self.pointwise = PairConvolution(in_channels, out_channels, 1)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        first, second = self.depthwise.weight.chunk(2)
        convolve = partial(F.conv2d, stride=2, padding=1, groups=anchor.shape[1])
        return self.pointwise(convolve(anchor, first), convolve(positive, second), convolve(negative, second))


class PairPooling(nn.Module):
    """Global average pooling of the maps of pairs: [B, C, H, W] three times → [2B, 2C, 1, 1]."""

    def forward(self, *images: Tensor) -> Tensor:
        anchor, positive, negative = (maps.mean(dim=(2, 3), keepdim=True) for maps in images)
        return torch.cat([torch.cat([anchor, positive], 1), torch.cat([anchor, negative], 1)])


class FeatureProjection(nn.Module):
    """The feature projection layer: maps of one stage → the projected pair features Z.

    One step from this stage to the deepest, each of which halves the resolution, then global average pooling; the
    deepest stage is only pooled. Maps may be of any size, down to 1x1.

    ``first`` takes the maps of B triplets, [B, C, H, W] three times, to what the first layer makes of their 2B
    pairs, the positive ones first; ``rest`` takes that to Z [2B, out_features]. In between, the two kinds may be
    parted for BatchNorm to see each alone.

    Args:
        widths: the channels of the pair maps at this stage and at every deeper one, 2C_i, ..., 2C_k.
        form: "separable": a ``SepConv`` a step (released). "plain": a 3x3 convolution of stride 2, BN and ReLU.
            "reduced": plain, but the first step leaves 64 channels (2C_i if that is less), doubled by every further
            step.
        width: factor on every width that the backbone does not set; see ``RelationNetwork``.
    """

    def __init__(self, widths: Sequence[int], form: Projection = "separable", *, width: float = 1.0) -> None:
        super().__init__()
        if form not in get_args(Projection):
            raise unknown("projection", form, get_args(Projection))
        inner = [scaled(channels, width) for channels in widths]
        steps = len(widths) - 1
        if form == "reduced":
            base = scaled(min(REDUCED, widths[0]), width)
            inner[1:] = [base * 2**step for step in range(steps)]
        self.out_features = inner[-1] if steps else widths[0]
        self.first: nn.Module
        layers: list[nn.Module] = []
        if not steps:
            self.first = PairPooling()
        elif form == "separable":
            self.first = SeparablePairConvolution(widths[0], inner[0])
            layers += [*norm_relu(inner[0]), *separable(inner[0], inner[1], stride=1)]
            layers += [SepConv(inner[step], inner[step + 1]) for step in range(1, steps)]
        else:
            self.first = PairConvolution(widths[0], inner[1], 3, stride=2)
            layers += norm_relu(inner[1])
            for step in range(1, steps):
                layers += [nn.Conv2d(inner[step], inner[step + 1], 3, 2, 1, bias=False), *norm_relu(inner[step + 1])]
        self.rest = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return self.rest(self.first(anchor, positive, negative))
