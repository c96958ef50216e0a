"""Depthwise convolutions: their gradients in bfloat16 against float64, and where they are taken."""

from contextlib import nullcontext
from functools import partial

import pandas as pd
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from classmates.training import depthwise
from classmates.training.depthwise import FasterDepthwise, faster_depthwise

CHANNELS = 5
NAME = "_DepthwiseConv2dBackward"
extents = st.tuples(st.integers(1, 8), st.integers(1, 8))


def convolve(image, weight, bias=None, **how):
    """Convolve within the context, under autocast, and return the output and the name of its backward."""
    with FasterDepthwise(), torch.autocast("cpu", torch.bfloat16):
        made = F.conv2d(image, weight, bias, **how)
    return made, type(made.grad_fn).__name__


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
    how = {"stride": stride, "padding": padding, "groups": CHANNELS}
    drawn = torch.Generator().manual_seed(0)
    image = torch.randn(2, CHANNELS, *size, generator=drawn).bfloat16()
    image = image.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight = torch.randn(CHANNELS, 1, *kernel, generator=drawn).bfloat16()
    bias = torch.randn(CHANNELS, generator=drawn).bfloat16()
    # Float32 leaves, as of parameters: the context converts them, and their gradients back.
    leaves = [part.float().requires_grad_() for part in (image, weight, bias)]
    exact = [part.double().requires_grad_() for part in (image, weight, bias)]

    made, name = convolve(*leaves, **how)
    expected = F.conv2d(*exact, **how)
    gradient = torch.randn(expected.shape, generator=drawn).bfloat16()
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.double(), expected, rtol=0.01, atol=0.05)
    strides_cover = all(step <= extent for step, extent in zip(stride, kernel, strict=True))
    assert (name == NAME) == (strides_cover and (kernel[1] > 3 or max(stride) > 1))
    assume(name == NAME)  # PyTorch's own leaves some gradients unwritten where a weight meets nothing but padding
    found = torch.autograd.grad(made, leaves, gradient)
    for one, true in zip(found, torch.autograd.grad(expected, exact, gradient.double()), strict=True):
        assert one.dtype == torch.float32
        assert (one - true).abs().max() <= 0.01 * true.abs().max()


@pytest.mark.parametrize(
    "how",
    [
        {"groups": 4},  # stride 1 and 3 columns: fast as it is
        {"groups": 4, "stride": 2, "dilation": 2},
        {"groups": 4, "padding": "same", "weight": (4, 1, 5, 5)},
        {"groups": 2, "stride": 2, "weight": (4, 2, 3, 3)},  # in groups, not depthwise
        {"groups": 4, "stride": 2, "weight": (8, 1, 3, 3)},  # two outputs of each channel
        {"groups": 1, "stride": 2, "weight": (4, 4, 3, 3)},
        {"groups": 1, "stride": 2, "weight": (1, 1, 3, 3), "image": (2, 1, 9, 9)},
        {"groups": 4, "stride": 2, "image": (4, 9, 9)},  # one image, no batch
    ],
)
def test_other_convolutions_are_left_to_torch(how):
    image = torch.randn(how.pop("image", (2, 4, 9, 9)), requires_grad=True)
    weight = torch.randn(how.pop("weight", (4, 1, 3, 3)), requires_grad=True)
    assert convolve(image, weight, **how)[1] != NAME


@pytest.mark.parametrize(("grad", "autocast"), [(True, False), (False, True)])
def test_float32_and_passes_without_gradients_are_left_to_torch(grad, autocast, monkeypatch):
    monkeypatch.setattr(depthwise._DepthwiseConv2d, "apply", lambda *parts: pytest.fail("taken"))
    layer = nn.Conv2d(4, 4, 5, groups=4)
    with FasterDepthwise(), torch.set_grad_enabled(grad), torch.autocast("cpu", enabled=autocast):
        assert layer(torch.randn(2, 4, 9, 9)).shape == (2, 4, 5, 5)


def mobile(kernel=5):
    """A network with a depthwise convolution."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, kernel, padding=2, groups=8), nn.BatchNorm2d(8), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


@pytest.mark.parametrize(
    ("device", "precision", "kernel", "concerned"),
    [
        ("cpu", "bf16-mixed", 5, True),
        ("cpu", "bf16-true", 5, True),
        ("cpu", "bf16-mixed", 3, False),
        ("cpu", "32-true", 5, False),
        ("cuda", "bf16-mixed", 5, False),
    ],
)
def test_networks_without_slow_convolutions_are_trained_as_they_are(device, precision, kernel, concerned):
    context = faster_depthwise(mobile(kernel), device, precision)
    assert isinstance(context, FasterDepthwise if concerned else nullcontext)


@pytest.mark.parametrize("recompute", ["nothing", "all"])
def test_training_takes_them_and_comes_to_the_same_losses(small_train, small_mcl, recompute, monkeypatch, tmp_path):
    taken = []
    counted = depthwise.weight_gradient
    monkeypatch.setattr(depthwise, "weight_gradient", lambda *parts: taken.append(1) or counted(*parts))

    def losses(folder):
        torch.manual_seed(0)
        how = {"precision": "bf16-mixed", "recompute": recompute}
        small_train(model=mobile(), method=partial(small_mcl, share=-1), **how, out=folder)
        return pd.read_csv(folder / "metrics.csv")["train/total"].tolist()

    ours = losses(tmp_path / "ours")
    assert taken
    monkeypatch.setattr("classmates.training.module.faster_depthwise", lambda *how: nullcontext())
    taken.clear()
    assert losses(tmp_path / "others") == pytest.approx(ours, rel=0.01)
    assert not taken
