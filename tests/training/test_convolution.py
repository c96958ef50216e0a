"""What convolutions have in common: the gradient of their input, phase by phase."""

import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch.nn import functional as F

from classmates.training.convolution import Placement, input_gradient, layout


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels_last=st.booleans(),
)
@example(kernel=(1, 1), stride=(2, 2), padding=(0, 0), size=(4, 4), channels_last=True)  # it passes over rows
def test_the_gradient_of_the_input_is_that_of_autograd(kernel, stride, padding, size, channels_last):
    assume(all(side + 2 * pad >= extent for side, pad, extent in zip(size, padding, kernel, strict=True)))
    drawn = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, *size, generator=drawn, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, *kernel, generator=drawn, dtype=torch.float64)
    made = F.conv2d(image, weight, None, stride, padding)
    gradient = torch.randn(made.shape, generator=drawn, dtype=torch.float64)
    gradient = gradient.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    (expected,) = torch.autograd.grad(made, image, gradient)
    how = Placement(stride, padding)
    found = input_gradient(
        gradient, weight, image.shape, how, lambda padded, taps: F.conv2d(padded, taps.transpose(0, 1))
    )
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=layout(gradient))
