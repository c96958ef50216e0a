"""Squeeze-and-excitation ResNets for 32×32 images (Hu et al., CVPR 2018).

CORSD's release leaves its SENets out; these are the definitions that two other releases of its authors use. They
differ from Hu et al.: every convolution has a bias, and the residual ends with a ReLU before it is rescaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from classmates.models.backbone import Backbone
from classmates.models.blocks import Block, stack_stages
from classmates.models.registry import register


class SEBlock(nn.Module):
    """ReLU(shortcut(x) + SE(residual(x))), the excitation through 1/16 of the channels.

    Args:
        residual: the convolutions, each with BatchNorm and ReLU.
        in_channels: channels of x.
        out_channels: channels of the residual's output.
        stride: of the residual.
    """

    def __init__(self, residual: nn.Module, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = residual
        self.excitation = SqueezeExcitation(out_channels, out_channels // 16)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = Conv2dNormActivation(
                in_channels, out_channels, 1, stride, activation_layer=None, bias=True
            )

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.shortcut(features) + self.excitation(self.residual(features)))


def _basic(in_channels: int, width: int, stride: int) -> nn.Module:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, width, 3, stride, bias=True),
        Conv2dNormActivation(width, width, 3, bias=True),
    )
    return SEBlock(residual, in_channels, width, stride)


def _bottleneck(in_channels: int, width: int, stride: int) -> nn.Module:
    residual = nn.Sequential(
        Conv2dNormActivation(in_channels, width, 1, bias=True),
        Conv2dNormActivation(width, width, 3, stride, bias=True),
        Conv2dNormActivation(width, 4 * width, 1, bias=True),
    )
    return SEBlock(residual, in_channels, 4 * width, stride)


def _senet(block: Block, depths: Sequence[int], expansion: int, *, in_chans: int, **head: Any) -> Backbone:
    stem = Conv2dNormActivation(in_chans, 64, 3, bias=True)
    return Backbone(stem, stack_stages(block, depths, (64, 128, 256, 512), 64, expansion=expansion), **head)


@register(stages=4)
def seresnet18_cifar(**kwargs: Any) -> Backbone:
    """CORSD's SE-ResNet-18. Torch's own initialisation."""
    return _senet(_basic, (2, 2, 2, 2), 1, **kwargs)


@register(stages=4)
def seresnet50_cifar(**kwargs: Any) -> Backbone:
    """CORSD's SE-ResNet-50. Torch's own initialisation."""
    return _senet(_bottleneck, (3, 4, 6, 3), 4, **kwargs)
