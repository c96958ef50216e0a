from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.peers.branches import branch, finished_by
from classmates.networks.peers.peers import Peers

Make = Callable[..., nn.Module]


class Flat(nn.Module):
    """Layers in a row with one in-place activation for all of them, as many networks are written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.conv3, self.bn3 = nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))
        maps = self.relu(self.bn2(self.conv2(maps)))
        return self.fc(self.relu(self.bn3(self.conv3(maps))).mean((2, 3)))


class Residual(nn.Module):
    """Shortcuts added in place, in the network's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.conv3, self.conv4 = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.conv5 = nn.Conv2d(6, 8, 3, 2, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        shortcut = self.conv1(images)
        maps = self.conv2(shortcut)
        maps += shortcut
        shortcut = self.conv3(F.relu(maps, inplace=True))
        maps = self.conv4(shortcut)
        maps += shortcut
        return self.fc(self.conv5(F.relu_(maps)).mean((2, 3)))


class Dense(nn.Module):
    """Every stage's map is looked at by the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(3, 4, 3, 2, 1),
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.Conv2d(6, 8, 3, 2, 1),
        )
        self.fc = nn.Linear(18, 5)

    def forward(self, images: Tensor) -> Tensor:
        first = self.conv1(images)
        second = self.conv2(first)
        return self.fc(torch.cat([maps.mean((2, 3)) for maps in (first, second, self.conv3(second))], 1))


class Encoder(nn.Module):
    """torch's transformer, which asks its first layer for settings, and a position embedding before the split."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 4, 16))
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 4)
        self.fc = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.fc(self.layers(tokens).mean(1))


@pytest.mark.parametrize(
    ("make", "copies"),
    [(Flat, True), (Residual, True), (Dense, True), (Encoder, False)],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_networks_as_people_write_them(make: type[nn.Module], copies: bool) -> None:
    last_split = len(inspect_network(make(), (3, 16, 16)).stages) - 2
    for split in range(last_split + 1):
        torch.manual_seed(0)
        network = make()
        architecture = inspect_network(network, (3, 16, 16))
        branched, trunk = branch(network, architecture, architecture.stages[split].name)
        assert trunk.copies == copies or split < last_split
        for training in (False, True):
            network.train(training), branched.train(training)
            images = torch.randn(3, 3, 16, 16)
            with trunk.recorded():
                whole, part = network(images), branched(images)
            assert torch.equal(whole, part)
        (whole.square().sum() + part.square().sum()).backward()  # in-place writes have spoilt no saved tensor
        assert all(parameter.grad is not None for parameter in branched.parameters())
        assert "positions" not in dict(branched.named_parameters())


def test_a_network_that_keeps_its_features_on_itself_has_branches_too() -> None:
    """As networks do that show their features or attention: a tensor that gradients flow to cannot be copied."""

    class Shows(Flat):
        def forward(self, images: Tensor) -> Tensor:
            self.features = self.bn1(self.conv1(images))
            maps = self.relu(self.bn2(self.conv2(self.features)))
            return self.fc(self.relu(self.bn3(self.conv3(maps))).mean((2, 3)))

    peers = Peers(Shows(), DataSpec(5, [0, 1, 2, 3, 4], (3, 16, 16)), count=3, share=-2)
    outputs = peers(torch.randn(2, 3, 16, 16))
    assert len(outputs) == 3
    sum(one.logits.sum() for one in outputs).backward()


def test_peers_do_not_write_into_each_other_s_features() -> None:
    torch.manual_seed(0)
    peers = Peers(Flat(), DataSpec(5, torch.arange(5), (3, 16, 16)), 3, share=1, start="same")
    first, second, student = peers(torch.randn(4, 3, 16, 16))
    assert torch.equal(first.embedding, student.embedding)
    assert torch.equal(second.embedding, student.embedding)


def test_a_branch_that_a_network_refuses_is_an_error_that_says_what_to_do(tiny_network: Make) -> None:
    class Noisy(nn.Module):
        """Is never the same twice."""

        def __init__(self) -> None:
            super().__init__()
            self.network = tiny_network()

        def forward(self, images: Tensor) -> Tensor:
            return self.network(images) + torch.rand(())

    network = Noisy()
    architecture = inspect_network(network, (3, 16, 16))
    with pytest.raises(
        UserError, match=r"Noisy cannot be split after 'network.stage1' \(.*\): split .*share='nothing'"
    ):
        branch(network, architecture, "network.stage1")


def test_trunk_is_empty_after_an_error(tiny_network: Make) -> None:
    network = tiny_network()
    _, trunk = branch(network, inspect_network(network, (3, 16, 16)), "stage1")
    held = []

    class Failing(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            held.extend(trunk.outputs)
            raise ArithmeticError

    network.stage2 = Failing()
    with pytest.raises(ArithmeticError), trunk.recorded():
        network(torch.randn(2, 3, 16, 16))
    assert held == ["stage1"]
    assert trunk.outputs == {}
    assert not any(module._forward_hooks for module in network.modules())


def test_what_has_finished_by_a_split() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()), nn.Conv2d(4, 6, 3, 2, 1))
    network.append(nn.Sequential(nn.Flatten(), nn.Linear(6 * 16, 5)))
    calls = inspect_network(network, (3, 16, 16)).calls
    assert finished_by(calls, "0.0") == ["0.0"]
    assert finished_by(calls, "0") == ["0"]
    assert finished_by(calls, "1") == ["0", "1"]
    flat = inspect_network(Flat(), (3, 16, 16)).calls
    assert finished_by(flat, "bn2") == ["conv1", "bn1", "conv2", "bn2"]  # the activation still has to run


def test_earlier_stubs_take_no_memory(tiny_network: Make) -> None:
    network = tiny_network()
    _, trunk = branch(network, inspect_network(network, (3, 16, 16)), "stage2")
    with trunk.recorded():
        network(torch.randn(2, 3, 16, 16))
        assert trunk.outputs["stage1"].shape == (2, 4, 8, 8)
        assert trunk.outputs["stage1"].untyped_storage().size() == trunk.outputs["stage1"].element_size()
        assert trunk.outputs["stage2"].untyped_storage().size() > 100


def test_only_what_training_no_longer_needs_is_dropped() -> None:
    class TrainingOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
            self.before = nn.Parameter(torch.ones(3, 1, 1))
            self.shift = nn.Parameter(torch.ones(6))
            self.fc = nn.Linear(6, 5)

        def forward(self, images: Tensor) -> Tensor:
            embedding = self.conv2(self.conv1(images * self.before)).mean((2, 3))
            return self.fc(embedding + self.shift if self.training else embedding)

    network = TrainingOnly()
    branched, _ = branch(network, inspect_network(network, (3, 16, 16)), "conv1")
    names = {name for name, _ in branched.named_parameters()}
    assert names == {"shift", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"}
    assert branched.before.shape == (3, 1, 1)
    assert "before" not in branched.state_dict()


class Skipping(nn.Module):
    """Skips blocks at random in training (LayerDrop)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, 1, 1) for _ in range(6))
        self.conv2, self.fc = nn.Conv2d(4, 6, 3, 2, 1), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv1(images)
        for block in self.blocks:
            if not self.training or torch.rand(()) > 0.5:
                maps = maps + block(maps)
        return self.fc(self.conv2(maps).mean((2, 3)))


def test_blocks_that_training_skips_at_random_are_not_lost() -> None:
    torch.manual_seed(0)
    network = Skipping()
    branched, _ = branch(network, inspect_network(network, (3, 16, 16)), "conv1")
    assert len(list(branched.blocks.parameters())) == 12


class Again(nn.Module):
    """Has one block before and after the split."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.block(self.conv2(self.block(self.conv1(images)))).mean((2, 3)))


def test_a_block_on_both_sides_of_the_split_counts_what_the_network_gives_it() -> None:
    torch.manual_seed(0)
    network = Again()
    branched, trunk = branch(network, inspect_network(network, (3, 16, 16)), "conv1")
    for _ in range(3):
        with trunk.recorded():
            images = torch.randn(8, 3, 16, 16)
            assert torch.equal(network(images), branched(images))
    assert torch.equal(network.block[1].running_var, branched.block[1].running_var)


def test_what_drops_in_place_in_training_does_so_for_one_peer() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.drop = nn.Conv2d(3, 64, 3, 2, 1), nn.Dropout2d(0.5, inplace=True)
            self.conv2, self.fc = nn.Conv2d(64, 6, 3, 2, 1), nn.Linear(6, 5)
            self.stage_names = ["conv1", "conv2"]

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.conv2(self.drop(self.conv1(images))).mean((2, 3)))

    torch.manual_seed(0)
    peers = Peers(Dropping(), DataSpec(5, torch.arange(5), (3, 16, 16)), 4, share=1, start="same")
    seen: list[Tensor] = []
    for network in peers.networks:
        network.drop.register_forward_hook(lambda _, __, output: seen.append((output == 0).flatten(2).all(2)))
    outputs = peers(torch.randn(4, 3, 16, 16))
    sum(output.logits.sum() for output in outputs).backward()
    assert all(0.4 < dropped.float().mean() < 0.6 for dropped in seen)
    assert len(seen) == 4
