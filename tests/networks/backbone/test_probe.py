from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.networks.backbone.probe import (
    default_input_shape,
    reason,
    record_calls,
    run_in_training,
    sample_images,
    silent,
)

Make = Callable[..., nn.Module]


def hooks_of(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


class Picky(nn.Module):
    """Raises an assertion without a message unless images have ``size`` pixels."""

    def __init__(self, size: int, in_chans: int = 2):
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(in_chans, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            raise AssertionError
        return self.conv(images).mean((2, 3))


def test_silent_leaves_modes_statistics_and_randomness_as_they_were(tiny_network: Make) -> None:
    network = tiny_network()
    network.stage2.eval()
    modes = [module.training for module in network.modules()]
    statistics = [buffer.clone() for buffer in network.buffers()]
    random_state = torch.get_rng_state()
    with silent(network):
        assert not any(module.training for module in network.modules())
        logits = network(torch.randn(2, 3, 8, 8))
        assert not logits.requires_grad
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(now, before) for now, before in zip(network.buffers(), statistics, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


class Caching(nn.Module):
    """Keeps in evaluation what it makes of its weight until train() is called, as LeViT's attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.kept: Tensor | None = None

    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.kept = None
        return super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and self.kept is None:
            self.kept = 2 * self.weight
        return images.mean((2, 3)) * (2 * self.weight if self.training else self.kept)


def test_silent_lets_a_network_forget_what_it_keeps_in_evaluation() -> None:
    network = Caching()
    with silent(network):
        network(torch.ones(2, 3, 4, 4))
    network.weight.data.zero_()  # trained on, without a call of train()
    assert network.eval()(torch.ones(2, 3, 4, 4)).abs().max() == 0


def test_calls_come_in_the_order_in_which_they_end(tiny_network: Make) -> None:
    network = tiny_network(widths=(4, 6))
    calls, logits = record_calls(network, (3, 16, 16))
    names = [call.name for call in calls]
    assert names == [
        "stage1.0",
        "stage1.1",
        "stage1.2",
        "stage1",
        "stage2.0",
        "stage2.1",
        "stage2.2",
        "stage2",
        "fc",
        "",
    ]
    by_name = {call.name: call for call in calls}
    assert (
        by_name["stage1"].started < by_name["stage1.0"].started < by_name["stage1.0"].ended < by_name["stage1"].ended
    )
    assert by_name["stage1"].ended < by_name["stage2"].started
    assert by_name["stage2"].shape == (2, 6, 4, 4)
    assert by_name["stage2"].module is network.stage2
    assert logits.shape == (2, 4)


def test_calls_of_a_module_that_runs_twice_and_of_one_that_returns_no_tensor() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.act = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            first, _ = self.pair(images)
            return self.act(self.act(first)).mean((2, 3))

    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, int]:
            return images, 1

    calls, _ = record_calls(Twice(), (3, 8, 8))
    assert [(call.name, call.shape) for call in calls] == [
        ("pair", None),
        ("act", (2, 3, 8, 8)),
        ("act", (2, 3, 8, 8)),
        ("", (2, 3)),
    ]


def test_no_hook_stays_even_if_the_network_fails(tiny_network: Make) -> None:
    network = tiny_network()
    record_calls(network, (3, 16, 16))
    assert hooks_of(network) == 0
    with pytest.raises(RuntimeError):
        record_calls(network, (5, 16, 16))
    assert hooks_of(network) == 0
    assert network.training


def test_sample_images_are_always_the_same_and_follow_the_network(tiny_network: Make) -> None:
    network = tiny_network()
    images = sample_images(network, (3, 8, 8))
    assert images.shape == (2, 3, 8, 8)
    assert torch.equal(images, sample_images(network, (3, 8, 8)))
    assert sample_images(network.double(), (3, 8, 8)).dtype == torch.float64
    assert sample_images(nn.Flatten(), (1, 2, 2)).dtype == torch.float32  # a network without parameters


def test_run_in_training_uses_batch_statistics_and_keeps_the_running_ones(tiny_network: Make) -> None:
    network = tiny_network()
    images = sample_images(network, (3, 8, 8))
    statistics = [buffer.clone() for buffer in network.buffers()]
    with silent(network):
        in_evaluation = network(images)
        in_training = run_in_training(network, images)
    assert not torch.allclose(in_training, in_evaluation)
    assert all(torch.equal(now, before) for now, before in zip(network.buffers(), statistics, strict=True))
    torch.testing.assert_close(network.train()(images), in_training)


def test_default_input_shape(tiny_network: Make) -> None:
    assert default_input_shape(timm.create_model("test_resnet", in_chans=2)) == (2, 160, 160)  # timm says so
    assert default_input_shape(tiny_network(in_chans=1)) == (1, 32, 32)  # the first size tried
    assert default_input_shape(Picky(64)) == (2, 64, 64)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))  # no convolution: three channels are supposed
    assert default_input_shape(linear) == (3, 32, 32)


def test_no_size_that_works_is_an_error_that_says_what_was_tried() -> None:
    with pytest.raises(
        UserError, match=r"Picky runs on none .*32x32 pixels: AssertionError.*64x64 .*224x224 .*input_shape="
    ):
        default_input_shape(Picky(48))


class SpaceToDepth(nn.Module):
    """Its first convolution by order of registration is not the first that runs, and takes other channels."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Conv2d(5, 5, 1)
        self.stem = nn.Conv2d(12, 4, 3)
        self.head = nn.Linear(4, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(nn.functional.pixel_unshuffle(images, 2)).mean((2, 3)))


def test_the_channels_are_those_that_the_network_runs_on() -> None:
    assert default_input_shape(SpaceToDepth()) == (3, 32, 32)
    with pytest.raises(UserError, match=r"2 channels of 32x32 pixels: .*2 channels of 224x224 pixels: "):
        default_input_shape(SpaceToDepth(), channels=2)


def _assert(holds: bool) -> None:
    if not holds:
        raise AssertionError


def test_an_error_without_a_message_is_the_line_that_raised_it() -> None:
    size = 5
    with pytest.raises(AssertionError) as raised:
        _assert(size % 2 == 0)
    assert reason(raised.value) == "AssertionError at `_assert(size % 2 == 0)` in test_probe.py"
    assert reason(ValueError()) == "ValueError"
    assert reason(ValueError("why\nand where")) == "why"
