from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.stages import Layout, Stage

Make = Callable[..., nn.Module]


class Auxiliary(NamedTuple):
    logits: Tensor
    auxiliary: Tensor


class Changed(nn.Module):
    """A network with something done to what it returns."""

    def __init__(self, network: nn.Module, change: Callable[[nn.Module, Tensor], object]):
        super().__init__()
        self.network = network
        self.change = change

    def forward(self, images: Tensor) -> object:
        return self.change(self, self.network(images))


class Cosine(nn.Module):
    def __init__(self, embedding: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding))

    def forward(self, embedding: Tensor) -> Tensor:
        return nn.functional.normalize(embedding, dim=1) @ nn.functional.normalize(self.weight, dim=1).T


def test_what_one_run_tells(tiny_network: Make) -> None:
    network = tiny_network(num_classes=7)
    architecture = inspect_network(network, (3, 16, 16))
    assert architecture.input_shape == (3, 16, 16)
    assert (architecture.classifier, architecture.embedding, architecture.num_classes) == ("fc", 10, 7)
    assert architecture.stages == (
        Stage("stage1", (4, 8, 8), Layout.NCHW),
        Stage("stage2", (6, 4, 4), Layout.NCHW),
        Stage("stage3", (10, 2, 2), Layout.NCHW),
    )
    assert [stage.channels for stage in architecture.stages] == [4, 6, 10]
    assert architecture.calls[-1].module is network


def test_examining_changes_nothing(tiny_network: Make) -> None:
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random_state = torch.get_rng_state()
    inspect_network(network, (3, 16, 16))
    assert network.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


def test_the_default_size_is_found_out(tiny_network: Make) -> None:
    assert inspect_network(tiny_network(in_chans=1)).input_shape == (1, 32, 32)


def test_a_convolutional_classifier() -> None:
    head = [nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1), *head)
    architecture = inspect_network(network, (3, 16, 16))
    assert (architecture.classifier, architecture.embedding, architecture.num_classes) == ("2", 8, 5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 16, 16), "TinyNetwork cannot take images of 1 channels and 16x16 pixels: .*expected input"),
        ((3, 0, 16), "TinyNetwork cannot take images of 3 channels and 0x16 pixels"),
    ],
)
def test_images_that_a_network_cannot_take(tiny_network: Make, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect_network(tiny_network(), shape)


def test_a_network_without_values_is_told(tiny_network: Make) -> None:
    with torch.device("meta"):
        network = tiny_network()
    told = r"tensors without values, such as \S+ \(device 'meta'\): build it"
    with pytest.raises(UserError, match=told):
        inspect_network(network)
    network = tiny_network()
    network.register_buffer("scale", torch.empty(1, device="meta"))
    with pytest.raises(UserError, match=told):
        inspect_network(network)


def test_images_that_a_network_cannot_take_in_training() -> None:
    norm = nn.InstanceNorm2d(4, track_running_stats=True)  # normalises over 1x1 pixels in training alone
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), norm, nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(
        UserError, match="cannot take images of 3 channels and 8x8 pixels: Expected more than 1 spatial"
    ):
        inspect_network(network, (3, 8, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda _, logits: (logits, logits),
            r"must return logits \[batch, classes\]; it returned a tuple: build it without auxiliary outputs",
        ),
        (
            lambda _, logits: {"logits": logits},
            r"must return logits \[batch, classes\]; it returned a dict: build it without auxiliary outputs",
        ),
        (lambda _, logits: logits[:, :, None], r"it returned \(2, 4, 1\)$"),
        (
            lambda self, logits: Auxiliary(logits, logits) if self.training else logits,
            r"it returned a Auxiliary in training mode: build it without auxiliary outputs \(aux_logits=False\)$",
        ),
    ],
)
def test_what_is_not_logits(tiny_network: Make, change: Callable[[nn.Module, Tensor], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect_network(Changed(tiny_network(), change), (3, 16, 16))


def test_no_classifier(tiny_network: Make) -> None:
    network = tiny_network()
    network.fc = nn.Identity()
    # The last convolution has as many outputs as there are "logits", but it looks at more than one place.
    with pytest.raises(
        UserError, match=r"must make its 10 logits, .* is 'stage3.0', Conv2d\(6, 10, kernel_size=\(3, 3\)"
    ):
        inspect_network(network, (3, 16, 16))
    network.fc = Cosine(10, 6)  # as many classes as the second stage has channels
    with pytest.raises(UserError, match=r"must make its 6 logits, .* 'stage3.0'.* with nn.Linear\(features, 6\)"):
        inspect_network(network, (3, 16, 16))
    with pytest.raises(UserError, match="but the last one does not exist"):
        inspect_network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Cosine(3, 6)), (3, 16, 16))


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Identity()])
def test_a_network_that_ends_in_a_softmax_is_noticed(tiny_network: Make, end: nn.Module) -> None:
    network = nn.Sequential(tiny_network(), end)
    if isinstance(end, nn.Softmax):
        with pytest.raises(UserError, match=r"returns probabilities .* leave out the softmax at its end"):
            inspect_network(network, (3, 16, 16))
    else:
        assert inspect_network(network, (3, 16, 16)).num_classes == 4
