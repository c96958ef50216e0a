import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from classmates.errors import UserError
from classmates.networks.heads.adapters import adapter

sides = st.integers(1, 9)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), sides, sides)
def test_the_teachers_shape_comes_out(channels: int, outputs: int, height: int, width: int) -> None:
    student = (channels, height, width)
    halved = ((height + 1) // 2, (width + 1) // 2)
    for size in ((height, width), halved, (2 * height, 2 * width), (max(height - 3, 1), max(width - 1, 1))):
        module = adapter(student, (outputs, *size))
        made = module(torch.randn(2, *student))
        assert made.shape == (2, outputs, *size)
        assert (made >= 0).all()


def convolution(student: tuple[int, int, int], teacher: tuple[int, int, int]) -> nn.Module:
    first, norm, activation = adapter(student, teacher)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(activation, nn.ReLU)
    return first


def test_the_convolution_is_chosen_by_the_sizes() -> None:
    same = convolution((4, 8, 8), (6, 8, 8))
    half = convolution((4, 8, 8), (6, 4, 4))
    twice = convolution((4, 4, 4), (6, 8, 8))
    other = convolution((4, 8, 7), (6, 5, 7))
    assert [same.kernel_size, half.kernel_size, twice.kernel_size] == [(1, 1), (3, 3), (4, 4)]
    assert [half.stride, twice.stride] == [(2, 2), (2, 2)]
    assert isinstance(twice, nn.ConvTranspose2d)
    assert other.kernel_size == (4, 1)


@pytest.mark.parametrize("teacher", [(32, 12, 12), (32, 16, 4), (32, 5, 4)])
def test_shapes_that_do_not_meet_are_both_named(teacher: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=r"map \(16, 4, 4\) to the teacher's \(32, \d+, \d+\)"):
        adapter((16, 4, 4), teacher)
