"""Gradients of depthwise convolutions in bfloat16 on a CPU, two of which PyTorch computes very slowly.

oneDNN has fast kernels for the gradient of the input where the stride is 1, and for that of the weights where the
kernel is at most 3 wide. For others it takes a plain loop, which is two thirds of a training step of
EfficientNet-Lite0. Here both are put together from the fast ones: the same numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.nn.modules.utils import _pair

from classmates.training.convolution import Gradients, Placement, gradients, input_gradient, layout

WIDEST = 3
"""The widest kernel whose weights have a fast gradient; it may be of any height."""


def is_slow(weight: Tensor, stride: int | Sequence[int], groups: int) -> bool:
    """Return whether a convolution is depthwise and has a gradient without a fast kernel."""
    if weight.dim() != 4 or not len(weight) == groups > 1 or weight.shape[1] != 1:
        return False
    return weight.shape[3] > WIDEST or max(_pair(stride)) > 1


class DepthwiseConv2d(torch.autograd.Function):
    """A depthwise convolution with the gradients below."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, how: Placement) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.how = how
        return F.conv2d(image, weight, bias, how.stride, how.padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        return gradients(ctx, gradient, image_gradient, weight_gradient)


def image_gradient(gradient: Tensor, weight: Tensor, shape: torch.Size, how: Placement) -> Tensor:
    """Return the gradient of images of a ``shape``, (B, C, H, W), by that of the output, (B, C, H', W')."""
    if how.stride == (1, 1):
        return conv2d_input(shape, weight, gradient, 1, how.padding, 1, len(weight))
    return input_gradient(gradient, weight, shape, how, partial(F.conv2d, groups=len(weight)))


def weight_gradient(gradient: Tensor, image: Tensor, shape: torch.Size, how: Placement) -> Tensor:
    """Return the gradient of a depthwise convolution's weights of a ``shape``, (C, 1, h, w).

    A wide kernel is put together from pieces of ``WIDEST`` columns. Each is the gradient of a narrow kernel, for an
    input that is moved as far to the left as the piece lies to the right. The padding is written out, for where it is
    large beside the input oneDNN takes its loop again; and where a weight meets nothing but padding, as on an input
    one pixel wide, oneDNN may leave its gradient unwritten.

    gradient: of the output, (B, C, H', W'). image: the input, (B, C, H, W).
    """
    channels, _, height, width = shape
    axes = zip(image.shape[2:], shape[2:], how.stride, strict=True)
    meets_all = all(size >= extent + step for size, extent, step in axes)  # every weight meets a pixel
    if width <= WIDEST and meets_all:
        return conv2d_weight(image, shape, gradient, how.stride, how.padding, 1, channels)
    down, right = how.padding
    padded, piece = F.pad(image, (right, right, down, down)), min(width, WIDEST)
    columns = how.stride[1] * (gradient.shape[3] - 1) + piece
    made = gradient.new_empty(channels, 1, height, width)
    for left in [*range(0, width - piece, piece), width - piece]:
        moved = padded[..., left : left + columns].contiguous(memory_format=layout(image))
        narrow = (channels, 1, height, piece)
        made[..., left : left + piece] = conv2d_weight(moved, narrow, gradient, how.stride, 0, 1, channels)
    return made
