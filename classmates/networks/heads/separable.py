"""Depthwise-separable convolutions: what relation networks and early exits are made of."""

from __future__ import annotations

from torch import nn


def depthwise(channels: int, stride: int) -> nn.Conv2d:
    """Make a 3x3 convolution of each channel alone, without bias."""
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def separable(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    """Depthwise 3x3, pointwise without bias, BN, ReLU."""
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return [depthwise(in_channels, stride), pointwise, *norm_relu(out_channels)]


class SepConv(nn.Sequential):
    """Two depthwise-separable convolutions that halve the resolution: CORSD's and SD's projection unit.

    Depthwise 3x3 of stride 2, pointwise to ``in_channels``, BN, ReLU; depthwise 3x3, pointwise to ``out_channels``,
    BN, ReLU. No convolution has a bias. [B, in_channels, H, W] → [B, out_channels, ⌈H/2⌉, ⌈W/2⌉].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *separable(in_channels, in_channels, stride=2), *separable(in_channels, out_channels, stride=1)
        )
