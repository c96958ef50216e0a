import pytest
import timm
import torch
from torch import nn

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.networks.building.build import build_model
from classmates.networks.building.complexity import count_parameters
from classmates.networks.building.describe import Division, describe
from classmates.networks.peers.peers import Peers


class Plain(nn.Module):
    """No timm, no names: two stages, then a third that is one convolution."""

    def __init__(self, num_classes: int = 5, in_chans: int = 1):
        super().__init__()
        self.first = nn.Conv2d(in_chans, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.third = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.third(self.second(self.first(images).relu()).relu()).relu().mean((2, 3)))


def test_a_plain_network_to_the_last_number():
    found = describe(Plain(), image_size=8)
    assert [(stage.name, stage.shape) for stage in found.architecture.stages] == [
        ("first", (4, 8, 8)),
        ("second", (6, 4, 4)),
        ("third", (8, 2, 2)),
    ]
    first, second, third, head = 4 * 9 + 4, 6 * 4 * 9 + 6, 8 * 6 * 9 + 8, 8 * 5 + 5
    assert found.parameters == first + second + third + head
    assert found.multiply_adds == 4 * 9 * 64 + 6 * 4 * 9 * 16 + 8 * 6 * 9 * 4 + 8 * 5
    assert found.division == Division("first", shared=first, owned=second + third + head)
    text = str(found)
    for part in ("Plain, for images of 1x8x8 and 5 classes", "second  6x4x4", "'first': 40 parameters"):
        assert part in text
    assert f"{second + third + head:,} parameters of its own" in text


@pytest.mark.parametrize(("share", "trunk"), [(-1, "layer2"), ("layer1", "layer1"), ("nothing", None)])
def test_the_division_is_that_of_the_peers(share, trunk):
    found = describe("resnet8", num_classes=10, in_chans=1, image_size=8, share=share)
    network = build_model("resnet8", 10, 1)
    peers = Peers(network, DataSpec(10, torch.tensor([0]), (1, 8, 8)), 3, share=share)
    assert isinstance(found.division, Division)
    assert found.division.trunk == trunk
    # Three peers on one trunk: what is shared counts once.
    assert count_parameters(peers) == found.division.shared + 3 * found.division.owned
    assert found.parameters == found.division.shared + found.division.owned


def test_models_have_their_own_number_of_classes_and_size():
    cifar, imagenet = describe("resnet20"), describe("test_resnet")
    assert (cifar.architecture.num_classes, cifar.architecture.input_shape) == (100, (3, 32, 32))
    assert imagenet.architecture.num_classes == 1000
    assert imagenet.architecture.input_shape == (3, 160, 160)
    assert describe("resnet20", num_classes=7).architecture.num_classes == 7


def test_a_class_in_a_file(tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_chans=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_chans, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU(),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes))\n"
    )
    found = describe(f"{tmp_path / 'own.py'}:net", image_size=16)
    assert found.architecture.num_classes == 1000
    assert "own.py:net, for images of 3x16x16" in str(found)


def test_a_network_that_cannot_be_divided_is_described_all_the_same():
    found = describe(Plain(), image_size=8, stages=["first", "third"])
    assert isinstance(found.division, str)
    assert "shares 0 of 2 stages" in found.division
    assert f"shared trunk   none: {found.division}" in str(found)
    with pytest.raises(UserError, match="shares 0 of 2 stages"):
        describe(Plain(), image_size=8, stages=["first", "third"], share=-2)


def test_networks_of_one_size_are_described_at_the_size_asked_for():
    by_name = describe("vit_tiny_patch16_224", image_size=64, num_classes=3)
    assert by_name.architecture.input_shape == (3, 64, 64)
    built = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=3)
    assert describe(built, image_size=64).architecture.input_shape == (3, 64, 64)


def test_the_network_stays_as_it_was():
    network = Plain().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    describe(network, image_size=8)
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert torch.random.get_rng_state().equal(state)
    assert not network.first._forward_hooks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "resnet21"}, "unknown model 'resnet21'"),
        ({"model": "resnet8", "share": "layer4"}, "share='layer4' is no stage"),
        ({"model": "resnet8", "stages": ["layer1", "layer9"]}, "stage 'layer9'"),
        ({"model": "conv4", "image_size": 8}, "cannot take images of 3 channels and 8x8 pixels"),
    ],
)
def test_wrong_input(arguments, message):
    with pytest.raises(UserError, match=message):
        describe(**arguments)


def test_no_number_of_classes_is_refused():
    with pytest.raises(UserError, match="num_classes=0: give 1 or more"):
        describe("conv4", num_classes=0)


def test_arguments_of_the_model_are_handed_on() -> None:
    plain, small = describe("vit_tiny_patch16_224"), describe("vit_tiny_patch16_224", model_args={"depth": 4})
    assert small.parameters < plain.parameters
    with pytest.raises(UserError, match=r"could not be built: .*dpeth"):
        describe("resnet8", model_args={"dpeth": 4})
    with pytest.raises(UserError, match="model_args has in_chans, which describe takes itself"):
        describe("resnet8", model_args={"in_chans": 1})
    with pytest.raises(UserError, match="given as an object"):
        describe(Plain(), model_args={"depth": 4})


def test_a_tag_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"unknown weights of a model 'resnet18\.nope'"):
        describe("resnet18.nope")
