import pytest
import torch
from torch import nn

from classmates.networks.heads.separable import SepConv


def test_size() -> None:
    assert sum(parameter.numel() for parameter in SepConv(256, 512).parameters()) == 202_752
    count = sum(parameter.numel() for parameter in SepConv(6, 10).parameters())
    assert count == 18 * 6 + 6**2 + 2 * 6 + 6 * 10 + 2 * 10


def test_layers() -> None:
    layers = list(SepConv(4, 6))
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(c.kernel_size, c.stride, c.padding, c.groups) for c in convolutions] == [
        ((3, 3), (2, 2), (1, 1), 4),
        ((1, 1), (1, 1), (0, 0), 1),
        ((3, 3), (1, 1), (1, 1), 4),
        ((1, 1), (1, 1), (0, 0), 1),
    ]
    assert [(c.in_channels, c.out_channels, c.bias) for c in convolutions] == [
        (4, 4, None),
        (4, 4, None),
        (4, 4, None),
        (4, 6, None),
    ]
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "Conv2d", "BatchNorm2d", "ReLU"] * 2


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_halves_the_map_down_to_one_pixel(size: int) -> None:
    assert SepConv(4, 6)(torch.randn(2, 4, size, size)).shape == (2, 6, (size + 1) // 2, (size + 1) // 2)
