"""Depthwise convolutions: their gradients in bfloat16 against float64."""

import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch.nn import functional as F

from classmates.training.convolution import Placement
from classmates.training.depthwise import DepthwiseConv2d, is_slow

CHANNELS = 5
KINDS = (torch.bfloat16, torch.float64)
extents = st.tuples(st.integers(1, 8), st.integers(1, 8))


@given(
    kernel=extents,
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    channels_last=st.booleans(),
)
# Columns that meet nothing but padding.
@example(kernel=(1, 3), stride=(1, 2), padding=(0, 2), size=(2, 1), channels_last=True)
@example(kernel=(3, 3), stride=(2, 2), padding=(1, 1), size=(3, 1), channels_last=True)
def test_gradients_are_those_of_float64(kernel, stride, padding, size, channels_last):
    assume(all(side + 2 * pad >= extent for side, pad, extent in zip(size, padding, kernel, strict=True)))
    drawn = torch.Generator().manual_seed(0)
    image = torch.randn(2, CHANNELS, *size, generator=drawn).bfloat16()
    image = image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight = torch.randn(CHANNELS, 1, *kernel, generator=drawn).bfloat16()
    assert is_slow(weight, stride, CHANNELS) == (kernel[1] > 3 or max(stride) > 1)
    assume(is_slow(weight, stride, CHANNELS))  # PyTorch's own leaves some gradients unwritten
    bias = torch.randn(CHANNELS, generator=drawn).bfloat16()
    ours, exact = ([part.detach().to(kind).requires_grad_() for part in (image, weight, bias)] for kind in KINDS)

    made = DepthwiseConv2d.apply(*ours, Placement(stride, padding))
    expected = F.conv2d(*exact, stride=stride, padding=padding, groups=CHANNELS)
    gradient = torch.randn(expected.shape, generator=drawn).bfloat16()
    torch.testing.assert_close(made.double(), expected, rtol=0.01, atol=0.05)
    found = torch.autograd.grad(made, ours, gradient)
    for one, true in zip(found, torch.autograd.grad(expected, exact, gradient.double()), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - true).abs().max() <= 0.01 * true.abs().max()
