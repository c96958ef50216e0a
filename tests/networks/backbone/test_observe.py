from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from classmates.contracts import NetworkOutput
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import hooked, observe, stack_logits

Make = Callable[..., nn.Module]


class ChannelsLast(nn.Module):
    """Two stages whose maps are NHWC, the second of the two as tokens behind two prefix tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = Permuted(nn.Conv2d(3, 5, 3, 2, 1))
        self.stage2 = Tokens(nn.Conv2d(5, 7, 3, 2, 1))
        self.stage_names = ["stage1", "stage2"]
        self.fc = nn.Linear(7, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.stage2(self.stage1(images)).mean(1))


class Permuted(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).permute(0, 2, 3, 1)


class Tokens(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.conv(maps.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        return torch.cat([tokens.new_full((len(tokens), 2, 7), 9.0), tokens], 1)


def test_output_of_a_network(tiny_network: Make) -> None:
    network = tiny_network().eval()
    images = torch.randn(5, 3, 16, 16)
    output = observe(network, inspect_network(network, (3, 16, 16)), images)
    stage1 = network.stage1(images)
    stage2 = network.stage2(stage1)
    stage3 = network.stage3(stage2)
    for found, expected in zip(output.stages, (stage1, stage2, stage3), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(output.embedding, stage3.mean((2, 3)))
    assert torch.equal(output.logits, network(images))
    assert output.logits.requires_grad


def test_a_classifier_that_is_called_by_keyword_is_seen_too() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 6, 3, 2)
            self.fc = nn.Linear(6, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(input=self.second(self.first(images)).mean((2, 3)))

    network, images = Named().eval(), torch.randn(2, 3, 16, 16)
    output = observe(network, inspect_network(network, (3, 16, 16)), images)
    torch.testing.assert_close(output.embedding, network.second(network.first(images)).mean((2, 3)))


def test_nothing_stays_in_the_network(tiny_network: Make) -> None:
    network = tiny_network()
    architecture = inspect_network(network, (3, 16, 16))
    attributes = {name: set(vars(module)) for name, module in network.named_modules()}
    observe(network, architecture, torch.randn(2, 3, 16, 16))
    with pytest.raises(RuntimeError):
        observe(network, architecture, torch.randn(2, 5, 16, 16))
    for name, module in network.named_modules():
        assert set(vars(module)) == attributes[name]
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_maps_that_somebody_else_made_come_first(tiny_network: Make) -> None:
    network = tiny_network()
    made = torch.zeros(2, 4, 8, 8)
    output = observe(network, inspect_network(network, (3, 16, 16)), torch.randn(2, 3, 16, 16), shared=(made,))
    assert output.stages[0] is made
    assert [stage.shape[1] for stage in output.stages] == [4, 6, 10]


@pytest.mark.parametrize("shape", [(16, 16), (24, 16), (32, 32)])
def test_every_map_is_channels_first_at_any_size(shape: tuple[int, int]) -> None:
    network = ChannelsLast()
    images = torch.randn(2, 3, *shape)
    output = observe(network, inspect_network(network, (3, 16, 16)), images)
    first = network.stage1.conv(images)
    assert torch.equal(output.stages[0], first)
    assert torch.equal(output.stages[1], network.stage2.conv(first))


def test_embedding_of_a_convolutional_classifier_makes_the_logits() -> None:
    # Pooling the logits of every place is the same as the logits of the pooled embedding.
    head = [nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), *head)
    output = observe(network, inspect_network(network, (3, 16, 16)), torch.randn(2, 3, 16, 16))
    assert output.embedding.shape == (2, 8)
    torch.testing.assert_close(output.embedding @ head[0].weight.flatten(1).T + head[0].bias, output.logits)


def test_embedding_of_a_classifier_of_every_token_makes_the_logits() -> None:
    network = ChannelsLast()
    network.forward = lambda images: network.fc(network.stage2(network.stage1(images))).mean(1)
    output = observe(network, inspect_network(network, (3, 16, 16)), torch.randn(2, 3, 16, 16))
    assert output.embedding.shape == (2, 7)
    torch.testing.assert_close(network.fc(output.embedding), output.logits)


def test_hooked_calls_both_ways_and_lets_go(tiny_network: Make) -> None:
    network = tiny_network()
    seen: list[tuple[str, torch.Size]] = []
    with hooked(
        network,
        {"stage1": lambda output: seen.append(("after", output.shape))},
        {"stage2": lambda given: seen.append(("before", given.shape))},
    ):
        network(torch.randn(2, 3, 16, 16))
    network(torch.randn(2, 3, 16, 16))
    assert seen == [("after", (2, 4, 8, 8)), ("before", (2, 4, 8, 8))]


def test_stack_logits_keeps_the_order() -> None:
    outputs = [NetworkOutput(torch.full((2, 3), float(peer)), torch.empty(2, 1), ()) for peer in range(4)]
    stacked = stack_logits(outputs)
    assert stacked.shape == (4, 2, 3)
    assert stacked[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
