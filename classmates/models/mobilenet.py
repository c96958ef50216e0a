"""MobileNetV1 for 32×32 images (Howard et al., 2017)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.ops import Conv2dNormActivation

from classmates.models.backbone import Backbone
from classmates.models.blocks import stack_stages
from classmates.models.registry import register


def depthwise_separable(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Depthwise 3×3, then pointwise 1×1 with bias, each with BatchNorm and ReLU."""
    return nn.Sequential(
        Conv2dNormActivation(in_channels, in_channels, 3, stride, groups=in_channels),
        Conv2dNormActivation(in_channels, out_channels, 1, bias=True),
    )


@register(stages=4, first_conv="stem.0.0")
def mobilenetv1_cifar(*, in_chans: int, **head: Any) -> Backbone:
    """CORSD's MobileNetV1: stride 1 in the stem, then four stages that halve the map. Torch's own initialisation.

    CORSD's release leaves it out; this is the definition that two other releases of its authors use.
    """
    stem = nn.Sequential(Conv2dNormActivation(in_chans, 32, 3), depthwise_separable(32, 64, 1))
    stages = stack_stages(depthwise_separable, (2, 2, 6, 2), (128, 256, 512, 1024), 64, first_stride=2)
    return Backbone(stem, stages, **head)
