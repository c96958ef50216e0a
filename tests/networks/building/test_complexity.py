"""Parameters and multiply-adds against sums by hand; the network is left as it was."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from classmates.networks.building.complexity import count_parameters, multiply_adds


@settings(max_examples=50)
@given(
    channels=st.integers(1, 4),
    growth=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    side=st.integers(5, 9),
)
def test_convolutions(channels, growth, groups, kernel, stride, dilation, side):
    inputs, outputs = channels * groups, growth * groups
    conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups)
    out_side = (side - 1) // stride + 1
    expected = out_side**2 * kernel**2 * channels * outputs
    assert multiply_adds(conv, (inputs, side, side)) == expected
    assert count_parameters(conv) == kernel**2 * channels * outputs + outputs


class Attention(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2).unsqueeze(1)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_linear_layers_and_matrix_products_count_and_nothing_else():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.BatchNorm1d(7), nn.Linear(7, 5, bias=False))
    assert multiply_adds(network, (3, 4, 4)) == 48 * 7 + 7 * 5
    assert multiply_adds(Attention(), (8, 4, 4)) == 2 * 16 * 16 * 8  # q·kᵀ and the weighted sum of v


def test_shared_parameters_count_once_and_frozen_ones_too():
    linear = nn.Linear(4, 4).requires_grad_(False)
    assert count_parameters(nn.Sequential(linear, nn.ReLU(), linear)) == 20
    assert multiply_adds(nn.Sequential(nn.Flatten(), linear, linear), (1, 2, 2)) == 32  # but their work is done twice


class Restless(nn.Module):
    """Changes a buffer and draws random numbers, even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return F.dropout(images, training=True)


def test_the_network_is_left_as_it_was():
    norm = nn.BatchNorm2d(4)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Dropout(), Restless())
    norm.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    assert multiply_adds(network, (3, 5, 5)) == 9 * 9 * 3 * 4
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_mode_comes_back_when_the_run_fails():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout())
    with pytest.raises(RuntimeError):
        multiply_adds(network, (1, 5, 5))
    assert all(module.training for module in network.modules())


def test_the_network_is_counted_where_and_in_the_precision_it_is():
    with torch.device("meta"):
        network = nn.Conv2d(3, 4, 3)
    assert multiply_adds(network, (3, 5, 5)) == 9 * 9 * 3 * 4
    assert multiply_adds(nn.Conv2d(3, 4, 3).bfloat16(), (3, 5, 5)) == 9 * 9 * 3 * 4
    assert multiply_adds(nn.AvgPool2d(2), (3, 4, 4)) == 0  # no parameter to ask


class HandsOnParameters(nn.Module):
    """Gives a view of a parameter to a module, as PiT and CaiT do with their class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.token) + images.mean((1, 2, 3))[:, None])


def test_parameters_that_are_handed_from_module_to_module() -> None:
    network = HandsOnParameters()
    assert multiply_adds(network, (3, 4, 4)) == 24
    assert all(parameter.requires_grad for parameter in network.parameters())
