"""VGG-16 for 32×32 images (Simonyan & Zisserman, ICLR 2015), with BatchNorm and a single linear layer."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.ops import Conv2dNormActivation

from classmates.models.backbone import Backbone, Stage
from classmates.models.blocks import kaiming_fan_out, zero_bias
from classmates.models.registry import register


def initialize_vgg(module: nn.Module) -> None:
    """Kaiming-normal (fan-out) convolutions, linear weights from N(0, 0.01²), biases 0."""
    kaiming_fan_out(module)
    zero_bias(module)
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)


@register(stages=5, first_conv="layer1.0.0")
def vgg16_bn_cifar(*, in_chans: int, **head: Any) -> Backbone:
    """MCL-OKD's VGG-16: thirteen 3×3 convolutions with bias in five stages, no dropout, no hidden linear layer.

    Each stage but the first begins with the max-pool that follows the one before, so that the maps of the stages are
    those after the last ReLU; the last max-pool stands alone before the global pooling.
    """
    stages = []
    channels = in_chans
    for number, (depth, width) in enumerate(zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True)):
        blocks: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for _ in range(depth):
            blocks.append(Conv2dNormActivation(channels, width, 3, bias=True))
            channels = width
        stages.append(Stage(*blocks, channels=width, reduction=2**number))
    neck = Stage(nn.MaxPool2d(2), channels=channels, reduction=32)
    return Backbone(nn.Identity(), stages, neck=neck, initialize=initialize_vgg, **head)
