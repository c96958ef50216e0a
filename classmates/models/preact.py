"""Pre-activation ResNets for 32×32 images (He et al., ECCV 2016).

CORSD's release leaves its PreAct-ResNets out; these are the definitions that two other releases of its authors use.
They differ from He et al.: the shortcut's convolution sees the raw input, the stem is activated, and neither norm
nor ReLU comes before the pooling. The maps of the stages are raw sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from classmates.models.backbone import Backbone
from classmates.models.blocks import Block, preact_conv, stack_stages
from classmates.models.registry import register


class PreActBlock(nn.Module):
    """shortcut(x) + residual(x); the shortcut is a 1×1 convolution where the shape changes.

    Args:
        residual: BatchNorm → ReLU → convolution, two or three times.
        in_channels: channels of x.
        out_channels: channels of the residual's output.
        stride: of the residual.
    """

    def __init__(self, residual: nn.Module, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        return self.shortcut(features) + self.residual(features)


def _basic(in_channels: int, width: int, stride: int) -> nn.Module:
    residual = nn.Sequential(
        preact_conv(in_channels, width, 3, stride=stride, bias=True),
        preact_conv(width, width, 3, bias=True),
    )
    return PreActBlock(residual, in_channels, width, stride)


def _bottleneck(in_channels: int, width: int, stride: int) -> nn.Module:
    residual = nn.Sequential(
        preact_conv(in_channels, width, 1, stride=stride, bias=True),
        preact_conv(width, width, 3, bias=True),
        preact_conv(width, 4 * width, 1, bias=True),
    )
    return PreActBlock(residual, in_channels, 4 * width, stride)


def _preact_resnet(block: Block, depths: Sequence[int], expansion: int, *, in_chans: int, **head: Any) -> Backbone:
    stem = Conv2dNormActivation(in_chans, 64, 3, bias=True)
    return Backbone(stem, stack_stages(block, depths, (64, 128, 256, 512), 64, expansion=expansion), **head)


@register(stages=4)
def preact_resnet18(**kwargs: Any) -> Backbone:
    """CORSD's PreAct-ResNet-18. Torch's own initialisation."""
    return _preact_resnet(_basic, (2, 2, 2, 2), 1, **kwargs)


@register(stages=4)
def preact_resnet50(**kwargs: Any) -> Backbone:
    """CORSD's PreAct-ResNet-50, its strides on the first 1×1 convolution. Torch's own initialisation."""
    return _preact_resnet(_bottleneck, (3, 4, 6, 3), 4, **kwargs)
