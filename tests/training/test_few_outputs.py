"""Convolutions of few outputs as products: against float64, and where they are taken."""

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch.nn import functional as F

from classmates.training.convolution import Placement
from classmates.training.few_outputs import FewOutputsConv2d, is_slow

extents = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    kernel=extents,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    biased=st.booleans(),
    channels_last=st.booleans(),
)
@example(kernel=(1, 1), stride=(2, 2), padding=(0, 0), size=(4, 4), biased=False, channels_last=True)
@example(kernel=(3, 3), stride=(1, 1), padding=(1, 1), size=(1, 1), biased=True, channels_last=True)
def test_outputs_and_gradients_are_those_of_float64(kernel, stride, padding, size, biased, channels_last):
    assume(all(side + 2 * pad >= extent for side, pad, extent in zip(size, padding, kernel, strict=True)))
    drawn = torch.Generator().manual_seed(0)
    form = torch.channels_last if channels_last else torch.contiguous_format
    image = torch.randn(2, 5, *size, generator=drawn).bfloat16().contiguous(memory_format=form)
    weight = torch.randn(7, 5, *kernel, generator=drawn).bfloat16().contiguous(memory_format=form)
    parts = [image, weight, *([torch.randn(7, generator=drawn).bfloat16()] if biased else [])]
    ours, exact = ([part.detach().to(kind).requires_grad_() for part in parts] for kind in (None, torch.float64))

    expected = F.conv2d(*exact, stride=stride, padding=padding)
    made = FewOutputsConv2d.apply(*ours, *([] if biased else [None]), Placement(stride, padding))
    gradient = torch.randn(expected.shape, generator=drawn).bfloat16()
    assert made.dtype == torch.bfloat16
    found = (made, *torch.autograd.grad(made, ours, gradient))
    for one, true in zip(found, (expected, *torch.autograd.grad(expected, exact, gradient.double())), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one - true).abs().max() <= 0.01 * true.abs().max()


@pytest.mark.parametrize(
    ("image", "weight", "how", "groups", "tiles", "slow"),
    [
        ((2, 256, 2, 2), (64, 256, 3, 3), Placement((1, 1), (1, 1)), 1, True, True),
        ((2, 256, 8, 8), (64, 256, 3, 3), Placement((2, 2), (1, 1)), 1, True, True),
        ((2, 512, 8, 8), (256, 512, 1, 1), Placement((2, 2), (0, 0)), 1, True, True),
        ((2, 256, 1, 16), (64, 256, 3, 3), Placement((1, 1), (1, 1)), 1, True, True),
        ((2, 256, 2, 2), (64, 256, 3, 3), Placement((1, 1), (1, 1)), 1, False, False),
        ((2, 256, 5, 5), (64, 256, 3, 3), Placement((1, 1), (1, 1)), 1, True, False),
        ((2, 256, 3, 3), (64, 256, 3, 3), Placement((1, 1), (0, 0)), 1, True, False),
        ((2, 64, 2, 2), (64, 64, 3, 3), Placement((1, 1), (1, 1)), 1, True, False),
        ((2, 512, 2, 2), (64, 256, 3, 3), Placement((1, 1), (1, 1)), 2, True, False),
        ((2, 256, 2, 2), (64, 256, 3, 3), Placement((1, 1), (0, 0)), 1, True, False),
    ],
)
def test_where_products_are_faster(image, weight, how, groups, tiles, slow, monkeypatch):
    monkeypatch.setattr("classmates.training.few_outputs.has_tiles", lambda: tiles)
    whole = torch.empty(image).contiguous(memory_format=torch.channels_last)
    assert is_slow(whole, torch.empty(weight), how, groups) == slow
    assert not is_slow(torch.empty(image), torch.empty(weight), how, groups)
