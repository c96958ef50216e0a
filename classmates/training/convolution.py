"""What the convolutions of this package have in common: where their kernels lie, and how gradients come about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


class Placement(NamedTuple):
    """Stride and padding of a convolution, each (vertical, horizontal)."""

    stride: Pair
    padding: Pair


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, None]
OfOne = Callable[[Tensor, Tensor, torch.Size, Placement], Tensor]
"""Makes of the gradient of an output, and of image or weight, the gradient of the other, which has a shape."""


def gradients(ctx: Any, gradient: Tensor, of_image: OfOne, of_weight: OfOne) -> Gradients:
    """Return the gradients that are needed, of image, weight, bias and placement, by that of the output.

    ctx: of a forward pass that has saved image and weight, and as ``how`` where its kernel lies.
    """
    image, weight = ctx.saved_tensors
    image_wanted, weight_wanted, bias_wanted, _ = ctx.needs_input_grad
    return (
        of_image(gradient, weight, image.shape, ctx.how) if image_wanted else None,
        of_weight(gradient, image, weight.shape, ctx.how) if weight_wanted else None,
        gradient.sum((0, 2, 3)) if bias_wanted else None,
        None,
    )


def input_gradient(
    gradient: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    how: Placement,
    convolve: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the gradient of a convolution's input, whose ``shape`` is (B, C, H, W).

    With stride s every s-th row of the input meets the same rows of the kernel. So the gradient is s x s convolutions
    without a stride, one a phase, whose results lie between one another.

    Args:
        gradient: of the output, (B, O, H', W').
        weight: (O, C, h, w), or (C, 1, h, w) of a depthwise convolution.
        shape: (B, C, H, W).
        how: where its kernel lies.
        convolve: makes of a gradient, padded, and of the taps of a phase, turned round, the gradient of its rows,
            without stride or padding.
    """
    made = torch.empty(tuple(shape), dtype=gradient.dtype, memory_format=layout(gradient)).zero_()
    (down, right), axes = how.stride, zip(shape[2:], gradient.shape[2:], weight.shape[2:], *how, strict=True)
    for (row, top, above), (column, left, beside) in product(*[list(phases(*axis)) for axis in axes]):
        taps = weight[:, :, row::down, column::right].flip(2, 3)
        made[:, :, top::down, left::right] = convolve(F.pad(gradient, (*beside, *above)), taps)
    return made


def phases(size: int, out: int, kernel: int, stride: int, padding: int) -> Iterator[tuple[int, int, Pair]]:
    """Yield, along an axis: the first tap of a phase, the first row of the input that meets it, and the padding.

    A kernel shorter than its stride passes over rows, which are in no phase.

    size: of the input. out: of the output. The padding is the output's before and behind; where it is negative no row
    of the input meets what it cuts off.
    """
    for tap in range(min(stride, kernel)):
        first = (tap - padding) % stride
        met = (first + padding - tap) // stride  # the row of the output to which the tap leads from there
        rows, taps = len(range(first, size, stride)), len(range(tap, kernel, stride))
        if rows:
            yield tap, first, (taps - 1 - met, met + rows - out)


def layout(images: Tensor) -> torch.memory_format:
    """Return the memory format of (B, C, H, W)."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
