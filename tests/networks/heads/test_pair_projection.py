"""The projection of pairs against the same layers on stacked maps, which is how the paper draws it."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.networks.heads.pair_projection import (
    FeatureProjection,
    PairConvolution,
    Projection,
    SeparablePairConvolution,
)

FORMS = get_args(Projection)
WIDTHS = (8, 12, 20)


@pytest.fixture(autouse=True)
def _fixed_weights() -> None:
    torch.manual_seed(0)


def triplet_maps(channels: int, size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Three maps as they lie in a batch of triplets: every third row, in a network's memory format or not."""
    rows = torch.randn(15, channels, size, size, dtype=dtype).to(memory_format=torch.channels_last)
    return list(rows.unflatten(0, (-1, 3)).unbind(1))


def stacked(projection: FeatureProjection, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Z by stacking each pair's maps over channels first."""
    pairs = torch.cat([torch.cat([anchor, positive], 1), torch.cat([anchor, negative], 1)])
    first = projection.first
    if isinstance(first, SeparablePairConvolution):
        filtered = F.conv2d(pairs, first.depthwise.weight, stride=2, padding=1, groups=pairs.shape[1])
        pairs = F.conv2d(filtered, first.pointwise.weight)
    elif isinstance(first, PairConvolution):
        pairs = F.conv2d(pairs, first.weight, stride=2, padding=1)
    return projection.rest(pairs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_equals_the_stacked_form_in_value_and_gradient(form: Projection, stage: int, size: int) -> None:
    projection = FeatureProjection(WIDTHS[stage:], form).double()
    maps = [each.clone().requires_grad_() for each in triplet_maps(WIDTHS[stage] // 2, size)]
    leaves = [*maps, *projection.parameters()]
    z, expected = projection(*maps), stacked(projection, *maps)
    assert z.shape == (10, projection.out_features)
    torch.testing.assert_close(z, expected)
    weight = torch.randn_like(z)
    found, wanted = (torch.autograd.grad((weight * one).sum(), leaves) for one in (z, expected))
    assert all(one.abs().max() > 1e-6 for one in found[:3])
    torch.testing.assert_close(found, wanted)


def test_the_deepest_stage_is_only_pooled() -> None:
    anchor, positive, negative = triplet_maps(10, 3)
    for form in FORMS:
        projection = FeatureProjection([20], form, width=0.25)
        assert projection.out_features == 20
        assert not list(projection.parameters())
        z = projection(anchor, positive, negative)
        torch.testing.assert_close(z[5:], torch.cat([anchor, negative], 1).flatten(2).mean(-1))


@pytest.mark.parametrize(
    ("widths", "form", "width", "channels"),
    [
        ((128, 256, 512), "separable", 1.0, [128, 128, 256, 256, 512]),
        ((128, 256, 512), "separable", 0.5, [128, 64, 128, 128, 256]),
        ((128, 256, 512), "plain", 1.0, [128, 256, 512]),
        ((128, 256, 512), "reduced", 1.0, [128, 64, 128]),
        ((512, 1024, 2048), "reduced", 1.0, [512, 64, 128]),
        ((512, 1024, 2048), "reduced", 0.5, [512, 32, 64]),
        ((32, 64, 128), "reduced", 1.0, [32, 32, 64]),
    ],
)
def test_channels(widths: tuple[int, ...], form: Projection, width: float, channels: list[int]) -> None:
    projection = FeatureProjection(widths, form, width=width)
    full = [layer for layer in projection.modules() if isinstance(layer, nn.Conv2d) and layer.groups == 1]
    assert [full[0].in_channels, *(layer.out_channels for layer in full)] == channels
    assert projection.out_features == channels[-1]


@pytest.mark.parametrize("form", ["plain", "reduced"])
def test_nothing_of_the_backbone_s_maps_is_kept_twice(form: Projection) -> None:
    maps = triplet_maps(16, 8, torch.float32)
    there = {each.untyped_storage().data_ptr() for each in maps}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    projection = FeatureProjection([32, 32], form)
    weights = {parameter.untyped_storage().data_ptr() for parameter in projection.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        projection(*maps)
    made = sum(size for place, size in kept.items() if place not in there | weights)
    assert made == 2 * 10 * 32 * 4 * 4 * 4  # what BatchNorm and ReLU keep of ten pairs at half the resolution
