"""Gradients of depthwise convolutions in bfloat16 on a CPU, two of which PyTorch computes very slowly.

oneDNN has fast kernels for the gradient of the input where the stride is 1, and for that of the weights where the
kernel is at most 3 wide. For others it takes a plain loop, which is two thirds of a training step of
EfficientNet-Lite0. Here both are put together from the fast ones: the same numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

WIDEST = 3
"""The widest kernel whose weights have a fast gradient; it may be of any height."""

Pair = tuple[int, int]


class Placement(NamedTuple):
    """Stride and padding of a convolution, each (vertical, horizontal)."""

    stride: Pair
    padding: Pair


def faster_depthwise(network: nn.Module, device: str, precision: str) -> AbstractContextManager[Any]:
    """Return a context in which a network's depthwise convolutions learn fast; one without effect where all do.

    It is to hold for backward passes as well as for forward ones: what is computed again there must be the same.

    Args:
        network: whatever is trained.
        device: "cpu", "cuda" or another kind.
        precision: as Lightning names it.
    """
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    slow = any(is_slow(layer.weight, layer.stride, layer.groups) for layer in layers)
    return FasterDepthwise() if slow and device == "cpu" and precision.startswith("bf16") else nullcontext()


class FasterDepthwise(TorchFunctionMode):
    """Within it ``conv2d`` has the gradients of this module wherever PyTorch's own are slow."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d and torch.is_grad_enabled():
            made = depthwise_conv2d(*args, **(kwargs or {}))
            if made is not None:
                return made
        return func(*args, **(kwargs or {}))


def depthwise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolve as ``torch.nn.functional.conv2d`` does, by whose names; None where its own gradients are fast.

    input: (B, C, H, W). weight: (C, 1, h, w). bias: (C,) or None. Returns (B, C, H', W') in bfloat16.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
    if dtype != torch.bfloat16 or input.device.type != "cpu" or input.dim() != 4:
        return None
    if isinstance(padding, str) or _pair(dilation) != (1, 1) or not is_slow(weight, stride, groups):
        return None
    parts = (input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
    made: Tensor = _DepthwiseConv2d.apply(*parts, Placement(_pair(stride), _pair(padding)))
    return made


def is_slow(weight: Tensor, stride: int | Sequence[int], groups: int) -> bool:
    """Return whether a convolution is depthwise and has a gradient without a fast kernel."""
    if weight.dim() != 4 or not len(weight) == groups > 1 or weight.shape[1] != 1:
        return False
    height, width = weight.shape[2:]
    down, right = _pair(stride)
    if down > height or right > width:  # it passes over rows, which ``input_gradient`` would leave unwritten
        return False
    return width > WIDEST or max(down, right) > 1


class _DepthwiseConv2d(torch.autograd.Function):
    """A depthwise convolution with the gradients below."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, how: Placement) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.how = how
        return F.conv2d(image, weight, bias, how.stride, how.padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        image, weight = ctx.saved_tensors
        of_image, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            input_gradient(gradient, weight, image.shape[2:], ctx.how) if of_image else None,
            weight_gradient(gradient, image, weight.shape[2:], ctx.how) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def input_gradient(gradient: Tensor, weight: Tensor, size: Sequence[int], how: Placement) -> Tensor:
    """Return the gradient of a depthwise convolution's input, (B, C, H, W), of which ``size`` is (H, W).

    With stride s every s-th row of the input meets the same rows of the kernel. So the gradient is s x s convolutions
    without a stride, one a phase, whose results lie between one another.

    gradient: of the output, (B, C, H', W'). weight: (C, 1, h, w).
    """
    batch, channels = gradient.shape[:2]
    if how.stride == (1, 1):
        return conv2d_input((batch, channels, *size), weight, gradient, 1, how.padding, 1, channels)
    made = torch.empty((batch, channels, *size), dtype=gradient.dtype, memory_format=layout(gradient))
    (down, right), axes = how.stride, zip(size, gradient.shape[2:], weight.shape[2:], *how, strict=True)
    for (row, top, above), (column, left, beside) in product(*[list(phases(*axis)) for axis in axes]):
        taps = weight[:, :, row::down, column::right].flip(2, 3)
        padded = F.pad(gradient, (*beside, *above))
        made[:, :, top::down, left::right] = F.conv2d(padded, taps, groups=channels)
    return made


def phases(size: int, out: int, kernel: int, stride: int, padding: int) -> Iterator[tuple[int, int, Pair]]:
    """Yield, along an axis: the first tap of a phase, the first row of the input that meets it, and the padding.

    size: of the input. out: of the output. The padding is the output's before and behind; where it is negative no row
    of the input meets what it cuts off.
    """
    for tap in range(stride):
        first = (tap - padding) % stride
        met = (first + padding - tap) // stride  # the row of the output to which the tap leads from there
        rows, taps = len(range(first, size, stride)), len(range(tap, kernel, stride))
        if rows:
            yield tap, first, (taps - 1 - met, met + rows - out)


def weight_gradient(gradient: Tensor, image: Tensor, kernel: Sequence[int], how: Placement) -> Tensor:
    """Return the gradient of a depthwise convolution's weights, (C, 1, h, w), of which ``kernel`` is (h, w).

    A wide kernel is put together from pieces of ``WIDEST`` columns. Each is the gradient of a narrow kernel, for an
    input that is moved as far to the left as the piece lies to the right. The padding is written out, for where it is
    large beside the input oneDNN takes its loop again; and where a weight meets nothing but padding, as on an input
    one pixel wide, oneDNN may leave its gradient unwritten.

    gradient: of the output, (B, C, H', W'). image: the input, (B, C, H, W).
    """
    (height, width), channels = kernel, image.shape[1]
    axes = zip(image.shape[2:], kernel, how.stride, strict=True)
    meets_all = all(size >= extent + step for size, extent, step in axes)  # every weight meets a pixel
    if width <= WIDEST and meets_all:
        return conv2d_weight(image, (channels, 1, *kernel), gradient, how.stride, how.padding, 1, channels)
    down, right = how.padding
    padded, piece = F.pad(image, (right, right, down, down)), min(width, WIDEST)
    columns = how.stride[1] * (gradient.shape[3] - 1) + piece
    made = gradient.new_empty(channels, 1, height, width)
    for left in [*range(0, width - piece, piece), width - piece]:
        moved = padded[..., left : left + columns].contiguous(memory_format=layout(image))
        narrow = (channels, 1, height, piece)
        made[..., left : left + piece] = conv2d_weight(moved, narrow, gradient, how.stride, 0, 1, channels)
    return made


def layout(images: Tensor) -> torch.memory_format:
    """Return the memory format of (B, C, H, W)."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
