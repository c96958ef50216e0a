"""The pieces that more than one family of backbones is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from classmates.models.backbone import Stage

Block = Callable[[int, int, int], nn.Module]  # (in_channels, width, stride) → a block


def stack_stages(
    block: Block,
    depths: Sequence[int],
    widths: Sequence[int],
    in_channels: int,
    *,
    expansion: int = 1,
    first_stride: int = 1,
) -> list[Stage]:
    """Stages of equal blocks; the first block of each stage halves the map, the first stage's by ``first_stride``.

    Args:
        block: (in_channels, width, stride) → a block with ``width * expansion`` output channels.
        depths: blocks in each stage.
        widths: inner width of each stage.
        in_channels: channels that enter the first stage.
        expansion: output channels over inner width.
        first_stride: stride of the first stage, 1 or 2.
    """
    stages = []
    reduction = stride = first_stride
    for depth, width in zip(depths, widths, strict=True):
        blocks = []
        for number in range(depth):
            blocks.append(block(in_channels, width, stride if number == 0 else 1))
            in_channels = width * expansion
        stages.append(Stage(*blocks, channels=in_channels, reduction=reduction))
        stride = 2
        reduction *= stride
    return stages


def preact_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """BatchNorm → ReLU → convolution, padded to keep the size at stride 1 (He et al., ECCV 2016)."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias),
    )


class Concatenate(nn.Sequential):
    """The input and what the modules make of it, side by side: [B, C, H, W] → [B, C + growth, H, W] (DenseNet)."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, super().forward(features)], dim=1)


def kaiming_fan_out(module: nn.Module) -> None:
    """Draw convolutions from a normal distribution that keeps the gradient's variance at ReLU (He et al., 2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def zero_bias(module: nn.Module) -> None:
    """Set biases of convolutions and linear layers to 0."""
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
