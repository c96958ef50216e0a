"""ResNets for 32×32 images: the three-stage CIFAR family, and the four-stage ImageNet family with a CIFAR stem.

He et al., CVPR 2016; Xie et al., CVPR 2017 (ResNeXt); Zagoruyko & Komodakis, BMVC 2016 (wide). The blocks are
torchvision's: the stride is on the 3×3 convolution, shortcuts that change shape are a 1×1 convolution and BatchNorm.
The maps of the stages are taken after their last ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation

from classmates.models.backbone import Backbone
from classmates.models.blocks import kaiming_fan_out, stack_stages
from classmates.models.registry import register

CIFAR_WIDTHS = (16, 32, 64)
IMAGENET_WIDTHS = (64, 128, 256, 512)


def _resnet(
    kind: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    widths: Sequence[int],
    *,
    groups: int = 1,
    width_per_group: int = 64,
    in_chans: int,
    **head: Any,
) -> Backbone:
    """Build a 3×3 stem without max-pool, then stages: Kaiming-normal (fan-out) convolutions, BatchNorm at 1, 0."""

    def block(in_channels: int, width: int, stride: int) -> nn.Module:
        out_channels = width * kind.expansion
        shortcut = None
        if stride != 1 or in_channels != out_channels:
            shortcut = Conv2dNormActivation(in_channels, out_channels, 1, stride, activation_layer=None)
        return kind(in_channels, width, stride, shortcut, groups, width_per_group)

    stem = Conv2dNormActivation(in_chans, widths[0], 3)
    stages = stack_stages(block, depths, widths, widths[0], expansion=kind.expansion)
    return Backbone(stem, stages, initialize=kaiming_fan_out, **head)


@register(stages=3)
def resnet8(**kwargs: Any) -> Backbone:
    """CIFAR family, the smallest, for laptops and tests: one basic block a stage."""
    return _resnet(BasicBlock, (1, 1, 1), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet14(**kwargs: Any) -> Backbone:
    """CIFAR family, two basic blocks a stage."""
    return _resnet(BasicBlock, (2, 2, 2), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet20(**kwargs: Any) -> Backbone:
    """CIFAR family, three basic blocks a stage."""
    return _resnet(BasicBlock, (3, 3, 3), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet32(**kwargs: Any) -> Backbone:
    """MCL-OKD's ResNet-32: five basic blocks a stage, widths 16, 32, 64."""
    return _resnet(BasicBlock, (5, 5, 5), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet56(**kwargs: Any) -> Backbone:
    """CIFAR family, nine basic blocks a stage."""
    return _resnet(BasicBlock, (9, 9, 9), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet110(**kwargs: Any) -> Backbone:
    """MCL-OKD's ResNet-110: twelve bottlenecks a stage, as its code and its parameter counts have it.

    The ResNet-110 of He et al. is ``resnet110_basic``; ONE's has eighteen bottlenecks a stage.
    """
    return _resnet(Bottleneck, (12, 12, 12), CIFAR_WIDTHS, **kwargs)


@register(stages=3)
def resnet110_basic(**kwargs: Any) -> Backbone:
    """ResNet-110 as its paper has it, eighteen basic blocks a stage: the teacher of RepDistiller's comparisons."""
    return _resnet(BasicBlock, (18, 18, 18), CIFAR_WIDTHS, **kwargs)


@register(stages=4)
def resnet18_cifar(**kwargs: Any) -> Backbone:
    """CORSD's ResNet-18."""
    return _resnet(BasicBlock, (2, 2, 2, 2), IMAGENET_WIDTHS, **kwargs)


@register(stages=4)
def resnet50_cifar(**kwargs: Any) -> Backbone:
    """CORSD's ResNet-50."""
    return _resnet(Bottleneck, (3, 4, 6, 3), IMAGENET_WIDTHS, **kwargs)


@register(stages=4)
def resnet101_cifar(**kwargs: Any) -> Backbone:
    """CORSD's ResNet-101."""
    return _resnet(Bottleneck, (3, 4, 23, 3), IMAGENET_WIDTHS, **kwargs)


@register(stages=4)
def resnext50_32x4d_cifar(**kwargs: Any) -> Backbone:
    """CORSD's ResNeXt50-4: 32 groups, 4 channels each."""
    return _resnet(Bottleneck, (3, 4, 6, 3), IMAGENET_WIDTHS, groups=32, width_per_group=4, **kwargs)


@register(stages=4)
def resnext101_32x8d_cifar(**kwargs: Any) -> Backbone:
    """CORSD's ResNeXt101-8, the teacher of its comparisons: 32 groups, 8 channels each."""
    return _resnet(Bottleneck, (3, 4, 23, 3), IMAGENET_WIDTHS, groups=32, width_per_group=8, **kwargs)


@register(stages=4)
def wide_resnet50_2_cifar(**kwargs: Any) -> Backbone:
    """CORSD's WideResNet50-2: a ResNet-50 whose 3×3 convolutions are twice as wide."""
    return _resnet(Bottleneck, (3, 4, 6, 3), IMAGENET_WIDTHS, width_per_group=128, **kwargs)


@register(stages=4)
def wide_resnet101_2_cifar(**kwargs: Any) -> Backbone:
    """CORSD's WideResNet101-2: a ResNet-101 whose 3×3 convolutions are twice as wide."""
    return _resnet(Bottleneck, (3, 4, 23, 3), IMAGENET_WIDTHS, width_per_group=128, **kwargs)
