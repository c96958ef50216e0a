"""Where training takes convolutions of this package for PyTorch's."""

from contextlib import nullcontext
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from classmates.training import depthwise, few_outputs
from classmates.training.faster_convolutions import FasterConvolutions, faster_convolutions

OURS = {"DepthwiseConv2dBackward", "FewOutputsConv2dBackward"}


@pytest.fixture(autouse=True)
def every_small_convolution(monkeypatch):
    """A processor that multiplies tiles of matrices, and small convolutions that count as wide."""
    monkeypatch.setattr(few_outputs, "has_tiles", lambda: True)
    monkeypatch.setattr(few_outputs, "FEWEST_WEIGHTS", 100)


def convolve(image, weight, bias=None, **how):
    """Convolve within the context, under autocast, and return the output and the name of its backward."""
    with FasterConvolutions(), torch.autocast("cpu", torch.bfloat16):
        made = F.conv2d(image, weight, bias, **how)
    return made, type(made.grad_fn).__name__


@pytest.mark.parametrize("bias", [None, torch.zeros(8)])
@pytest.mark.parametrize(
    ("weight", "how"),
    [((8, 1, 5, 5), {"groups": 8}), ((8, 8, 3, 3), {"padding": 1}), ((8, 8, 4, 4), {"stride": 2, "padding": (1, 1)})],
)
def test_slow_ones_are_ours_and_their_gradients_are_in_float32(weight, bias, how):
    size, form = ((9, 9), torch.contiguous_format) if "groups" in how else ((4, 4), torch.channels_last)
    image = torch.randn(2, 8, *size).bfloat16().float().contiguous(memory_format=form).requires_grad_()
    weight = torch.randn(weight).bfloat16().float().requires_grad_()
    made, name = convolve(image, weight, bias, **how)
    assert name in OURS
    assert made.dtype == torch.bfloat16
    exact = F.conv2d(image, weight, bias, **how)
    torch.testing.assert_close(made.float(), exact, rtol=0.01, atol=0.01)
    assert made.stride() == exact.stride()
    parts = torch.autograd.grad(made.relu_().sum(), (image, weight))  # activations write into what they are given
    assert {one.dtype for one in parts} == {torch.float32}


@pytest.mark.parametrize(
    "how",
    [
        {"groups": 4},  # depthwise, stride 1 and 3 columns: fast as it is
        {"groups": 4, "stride": 2, "dilation": 2},
        {"groups": 4, "padding": "same", "weight": (4, 1, 5, 5)},
        {"groups": 2, "stride": 2, "weight": (4, 2, 3, 3)},  # in groups, not depthwise
        {"groups": 4, "stride": 2, "weight": (8, 1, 3, 3)},  # two outputs of each channel
        {"groups": 1, "stride": 2, "weight": (4, 4, 3, 3)},  # contiguous images
        {"groups": 1, "weight": (4, 4, 3, 3), "image": (2, 9, 9, 4)},  # channels last, 49 outputs
        {"groups": 1, "weight": (4, 4, 3, 3), "image": (2, 5, 5, 4), "dilation": 2},
        {"groups": 1, "stride": 2, "weight": (1, 1, 3, 3), "image": (2, 1, 9, 9)},
        {"groups": 4, "stride": 2, "image": (4, 9, 9)},  # one image, no batch
    ],
)
def test_other_convolutions_are_left_to_torch(how):
    image = torch.randn(how.pop("image", (2, 4, 9, 9)))
    image = image.permute(0, 3, 1, 2) if image.shape[-1] == 4 else image
    weight = torch.randn(how.pop("weight", (4, 1, 3, 3)), requires_grad=True)
    assert convolve(image.requires_grad_(), weight, **how)[1] not in OURS


def test_float32_is_left_to_torch(monkeypatch):
    for ours in (depthwise.DepthwiseConv2d, few_outputs.FewOutputsConv2d):
        monkeypatch.setattr(ours, "apply", lambda *parts: pytest.fail("taken"))
    with FasterConvolutions():
        assert nn.Conv2d(4, 4, 5, groups=4)(torch.randn(2, 4, 9, 9)).shape == (2, 4, 5, 5)
        assert nn.Conv2d(4, 4, 5)(torch.randn(2, 4, 9, 9)).shape == (2, 4, 5, 5)


def test_without_gradients_only_forward_passes_that_are_slow_are_ours(monkeypatch):
    monkeypatch.setattr(depthwise.DepthwiseConv2d, "apply", lambda *parts: pytest.fail("taken"))
    taken = []
    convolved = few_outputs.convolve
    monkeypatch.setattr(few_outputs, "convolve", lambda *parts: taken.append(1) or convolved(*parts))
    image = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert convolve(image, torch.randn(8, 1, 5, 5), groups=8, padding=2)[0].shape == image.shape
        assert not taken
        assert convolve(image, torch.randn(8, 8, 3, 3), padding=1)[0].shape == image.shape
    assert taken


def test_errors_are_those_of_torch():
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        convolve(torch.randn(2, 8, 2, 2).contiguous(memory_format=torch.channels_last), torch.randn(8, 8, 3, 3))


def network(kernel=5, groups=8):
    """A network whose second convolution is depthwise, or one of few outputs."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=groups), nn.BatchNorm2d(8), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


@pytest.mark.parametrize(
    ("device", "precision", "kernel", "groups", "tiles", "concerned"),
    [
        ("cpu", "bf16-mixed", 5, 8, False, True),
        ("cpu", "bf16-true", 5, 8, False, True),
        ("cpu", "bf16-mixed", 3, 8, True, False),
        ("cpu", "bf16-mixed", 3, 1, True, True),
        ("cpu", "bf16-mixed", 3, 1, False, False),
        ("cpu", "32-true", 5, 8, True, False),
        ("cuda", "bf16-mixed", 5, 8, True, False),
    ],
)
def test_networks_without_slow_convolutions_are_trained_as_they_are(
    device, precision, kernel, groups, tiles, concerned, monkeypatch
):
    monkeypatch.setattr(few_outputs, "has_tiles", lambda: tiles)
    context = faster_convolutions(network(kernel, groups), device, precision)
    assert isinstance(context, FasterConvolutions if concerned else nullcontext)


@pytest.mark.parametrize("recompute", ["nothing", "all"])
@pytest.mark.parametrize(("groups", "module"), [(8, depthwise), (1, few_outputs)])
def test_training_takes_them_and_comes_to_the_same_losses(
    small_train, small_mcl, recompute, groups, module, monkeypatch, tmp_path
):
    taken = []
    counted = module.weight_gradient
    monkeypatch.setattr(module, "weight_gradient", lambda *parts: taken.append(1) or counted(*parts))

    def losses(folder):
        torch.manual_seed(0)
        how = {"precision": "bf16-mixed", "memory_format": "channels_last", "recompute": recompute}
        method = partial(small_mcl, share=-1)
        small_train(model=network(groups=groups), method=method, **how, out=folder)
        return pd.read_csv(folder / "metrics.csv")["train/total"].tolist()

    ours = losses(tmp_path / "ours")
    assert taken
    monkeypatch.setattr("classmates.training.module.faster_convolutions", lambda *how: nullcontext())
    taken.clear()
    assert losses(tmp_path / "others") == pytest.approx(ours, rel=0.01)
    assert not taken
