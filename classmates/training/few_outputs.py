"""Convolutions of few outputs in bfloat16, on a CPU that multiplies tiles of them (AMX).

There oneDNN's kernels take longer than a product of matrices, most of all for the gradient of the weights. Here a
convolution is one product, patches of the image by weights, and so is each of its gradients: the same numbers, up to
rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from classmates._machine import has_tiles
from classmates.training.convolution import Gradients, Pair, Placement, gradients, input_gradient, layout

MOST_OUTPUTS = 16
"""Height times width of the output up to which products are faster: with more, patches repeat too much."""
FEWEST_WEIGHTS = 100_000
"""From which on they are: with fewer, there is little to multiply."""


def is_wide(weight: Tensor, groups: int) -> bool:
    """Return whether a convolution is slow on this machine where its outputs are few."""
    return weight.dim() == 4 and groups == 1 and weight.numel() >= FEWEST_WEIGHTS and has_tiles()


def is_slow(image: Tensor, weight: Tensor, how: Placement, groups: int) -> bool:
    """Return whether products are faster for a convolution. image: (B, C, H, W). weight: (O, C, h, w)."""
    if not is_wide(weight, groups) or layout(image) != torch.channels_last:
        return False
    axes = zip(image.shape[2:], weight.shape[2:], *how, strict=True)
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in axes)
    # The gradient of the image is a product for every pixel of a phase: too many where a large kernel has no padding.
    pixels = image.shape[2] * image.shape[3] // (how.stride[0] * how.stride[1])
    return min(height, width) > 0 and pixels <= 2 * height * width <= 2 * MOST_OUTPUTS


class FewOutputsConv2d(torch.autograd.Function):
    """A convolution, and its gradients, as products of matrices."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, how: Placement) -> Tensor:
        """Return (B, O, H', W') of an image, (B, C, H, W), weight, (O, C, h, w), and bias, (O,) or None."""
        ctx.save_for_backward(image, weight)
        ctx.how = how
        return convolve(padded(image, how), weight, how.stride, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        return gradients(ctx, gradient, image_gradient, weight_gradient)


def convolve(image: Tensor, weight: Tensor, stride: Pair = (1, 1), bias: Tensor | None = None) -> Tensor:
    """Return (B, O, H', W') of an image, (B, C, H, W), weight, (O, C, h, w), and bias, (O,), without padding."""
    patches = patches_of(image, weight.shape[2:], stride)
    shape = (len(image), len(weight), *patches.shape[1:3])
    made = torch.empty(shape, dtype=image.dtype, memory_format=torch.channels_last)  # no view: it may be written into
    rows, columns = patches.flatten(0, 2).flatten(1), weight.permute(2, 3, 1, 0).flatten(0, 2)
    products = made.permute(0, 2, 3, 1).flatten(0, 2)
    if bias is None:
        torch.mm(rows, columns, out=products)
    else:
        torch.addmm(bias, rows, columns, out=products)
    return made


def image_gradient(gradient: Tensor, weight: Tensor, shape: torch.Size, how: Placement) -> Tensor:
    """Return the gradient of images of a ``shape``, (B, C, H, W), by that of the output, (B, O, H', W')."""
    return input_gradient(gradient, weight, shape, how, lambda part, taps: convolve(part, taps.transpose(0, 1)))


def weight_gradient(gradient: Tensor, image: Tensor, shape: torch.Size, how: Placement) -> Tensor:
    """Return the gradient of weights of a ``shape``, (O, C, h, w), by that of the output, (B, O, H', W')."""
    patches = patches_of(padded(image, how), shape[2:], how.stride)
    made = gradient.permute(0, 2, 3, 1).flatten(0, 2).t() @ patches.flatten(0, 2).flatten(1)
    return made.unflatten(1, patches.shape[3:]).permute(0, 3, 1, 2)


def patches_of(image: Tensor, kernel: torch.Size, stride: Pair) -> Tensor:
    """Return what a kernel meets at each of its places, (B, H', W', h, w, C), of an image, (B, C, H, W)."""
    (height, width), (down, right) = kernel, stride
    seen = image.permute(0, 2, 3, 1).unfold(1, height, down).unfold(2, width, right)
    return seen.permute(0, 1, 2, 4, 5, 3).contiguous()


def padded(image: Tensor, how: Placement) -> Tensor:
    down, right = how.padding
    return F.pad(image, (right, right, down, down))
