"""DenseNet for 32×32 images (Huang et al., CVPR 2017)."""

from __future__ import annotations

from typing import Any

from torch import nn

from classmates.models.backbone import Backbone, Stage
from classmates.models.blocks import Concatenate, preact_conv, zero_bias
from classmates.models.registry import register


def initialize_densenet(module: nn.Module) -> None:
    """Kaiming-normal (fan-in) convolutions, linear bias 0."""
    zero_bias(module)
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


@register(stages=3)
def densenet40_12(*, in_chans: int, **head: Any) -> Backbone:
    """MCL-OKD's DenseNet-40-12: by its code and parameter counts the BC variant, growth 12, six layers a block.

    The first two stages end with their transition (1×1 convolution to half the channels, 2×2 average pooling), the
    last with the final BatchNorm and ReLU.
    """
    growth, channels, stages = 12, 24, []
    stem = nn.Sequential(nn.Conv2d(in_chans, channels, 3, padding=1, bias=False))
    for number in range(3):
        blocks: list[nn.Module] = []
        for _ in range(6):
            bottleneck = preact_conv(channels, 4 * growth, 1)
            blocks.append(Concatenate(bottleneck, preact_conv(4 * growth, growth, 3)))
            channels += growth
        if number < 2:
            blocks.append(nn.Sequential(preact_conv(channels, channels // 2, 1), nn.AvgPool2d(2)))
            channels //= 2
        else:
            blocks.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
        stages.append(Stage(*blocks, channels=channels, reduction=(2, 4, 4)[number]))
    return Backbone(stem, stages, initialize=initialize_densenet, **head)
