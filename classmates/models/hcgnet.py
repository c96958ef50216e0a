"""HCGNet: hybrid connectivity (residual and dense) with gates (Yang et al., AAAI 2020), as MCL-OKD uses it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from classmates.models.backbone import Backbone, Stage
from classmates.models.blocks import Concatenate, preact_conv
from classmates.models.registry import register


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """Softmax in float32 or better, whatever the precision of the scores."""
    return scores.softmax(dim, dtype=torch.promote_types(scores.dtype, torch.float32))


class AttentionPool(nn.Module):
    """Σ over positions of softmax(1×1 convolution to one channel) · x: [B, C, H, W] → [B, C, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        score = self.score(features)
        attention = _softmax(score.flatten(2), dim=2).view_as(score)
        return (attention * features).sum(dim=(2, 3), keepdim=True).to(features.dtype)


def _squeeze(in_channels: int, out_channels: int) -> nn.Sequential:
    """On pooled vectors: 1×1 convolution → BatchNorm → tanh. BatchNorm needs two images or more in training."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.Tanh())


class HybridGate(nn.Module):
    """x ⊙ forget(x) + update(x), for a map x [B, C, H, W].

    *forget* is one sigmoid weight per channel, made from x pooled with attention. *update* pools two depthwise
    convolutions of x (3×3, and 3×3 at dilation 2) with attention and mixes the two vectors channel by channel with a
    softmax: a constant per channel, the same at every position. (Such is the released code; the maps themselves,
    not their pooled vectors, would be the other reading.)

    Args:
        channels: C.
        reduction: C over the forget gate's hidden width, and 2C over the update gate's.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.forget = nn.Sequential(
            AttentionPool(channels), _squeeze(channels, hidden), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )
        self.narrow = nn.Sequential(preact_conv(channels, channels, 3, groups=channels), AttentionPool(channels))
        self.wide = nn.Sequential(
            preact_conv(channels, channels, 3, groups=channels, dilation=2), AttentionPool(channels)
        )
        hidden = 2 * channels // reduction
        self.select = nn.Sequential(_squeeze(2 * channels, hidden), nn.Conv2d(hidden, 2 * channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        context = torch.stack([self.narrow(features), self.wide(features)], dim=1)  # [B, 2, C, 1, 1]
        weight = _softmax(self.select(context.flatten(1, 2)).view_as(context), dim=1)
        update = (weight * context).sum(dim=1).to(features.dtype)
        return features * self.forget(features) + update


def smg(in_channels: int, growth: int) -> nn.Module:
    """Squeeze, multi-scale, gate: [B, C, H, W] → [B, C + growth, H, W], the input and ``growth`` new channels."""
    return Concatenate(
        preact_conv(in_channels, 4 * growth, 1),
        preact_conv(4 * growth, growth, 3, groups=4),
        HybridGate(growth, reduction=2),
    )


def transition(in_channels: int) -> nn.Module:
    """[B, C, H, W] → [B, C/2, H/2, W/2], squeezed through 3/4 of the channels and gated."""
    out_channels = in_channels // 2
    squeezed = in_channels - (in_channels - out_channels) // 2
    return nn.Sequential(
        preact_conv(in_channels, squeezed, 1),
        preact_conv(squeezed, out_channels, 3, stride=2),
        HybridGate(out_channels, reduction=4),
    )


@register(stages=3)
def hcgnet_a1(*, in_chans: int, **head: Any) -> Backbone:
    """HCGNet-A1: three hybrid blocks of eight units, growth 12, 24, 36. Torch's own initialisation.

    The first two stages end with their transition, the last with the final BatchNorm and ReLU. The scheduled
    DropBlock of HCGNet's own release is left out, as in MCL-OKD's.
    """
    channels, stages = 24, []
    stem = nn.Sequential(nn.Conv2d(in_chans, channels, 3, padding=1, bias=False))
    for number, growth in enumerate((12, 24, 36)):
        blocks = [smg(channels + unit * growth, growth) for unit in range(8)]
        channels += 8 * growth
        if number < 2:
            blocks.append(transition(channels))
            channels //= 2
        else:
            blocks.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
        stages.append(Stage(*blocks, channels=channels, reduction=(2, 4, 4)[number]))
    return Backbone(stem, stages, **head)
