import copy
from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from timm.layers import EvoNorm2dB0
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from classmates.contracts import DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.networks.backbone.forwards import (
    CompiledForward,
    RecomputedForward,
    ReplacedForward,
    parts_between,
    replace_forwards,
    restore_forwards,
)
from classmates.networks.peers.peers import Peers

Make = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured as ever, but run as it is: no C++ compiler and no minute of waiting."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def replaced(network: nn.Module, replacement: type = CompiledForward) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(vars(module).get("forward"), replacement)]


@pytest.mark.parametrize("backbone", ["plain", "vit"])
def test_compiled_peers_give_the_same_numbers(tiny_network: Make, backbone: str) -> None:
    torch.manual_seed(0)
    network = tiny_network() if backbone == "plain" else timm.create_model("test_vit", num_classes=4, img_size=32)
    peers = Peers(network, DataSpec(4, torch.arange(4), (3, 32, 32)), 3, share=-2)
    images = torch.randn(4, 3, 32, 32)

    def gradients() -> list[torch.Tensor]:
        peers.zero_grad()
        sum(output.logits.square().sum() + output.stages[-1].sum() for output in peers(images)).backward()
        return [parameter.grad for parameter in peers.parameters()]

    attributes = {name: set(vars(module)) for name, module in peers.named_modules()}
    expected, expected_gradients = peers(images), gradients()
    peers.compile_parts()
    assert all(replaced(one) for one in peers.networks)
    for _ in range(2):  # the hooks of the second step find the code that was compiled in the first
        for output, plain in zip(peers(images), expected, strict=True):
            torch.testing.assert_close(output.logits, plain.logits)
            torch.testing.assert_close(output.stages, plain.stages)
        torch.testing.assert_close(gradients(), expected_gradients)
    peers.plain_forwards()
    assert {name: set(vars(module)) for name, module in peers.named_modules()} == attributes
    for output, plain in zip(peers(images), expected, strict=True):
        assert torch.equal(output.logits, plain.logits)


def test_parts_are_as_large_as_observing_lets_them(tiny_network: Make) -> None:
    network = nn.ModuleDict({"body": tiny_network(), "unseen": nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())})
    replace_forwards(parts_between(network, ["body.stage1", "body.stage3.1", "body.fc"]), CompiledForward)
    assert replaced(network) == ["body.stage1", "body.stage2", "body.stage3.0", "body.stage3.1", "body.fc", "unseen"]


def test_a_module_s_own_forward_comes_back(tiny_network: Make) -> None:
    network = tiny_network()
    own = network.stage2.forward
    network.stage2.forward = lambda maps: own(maps) * 2
    patched = network.stage2.forward
    replace_forwards(parts_between(network, ["fc"]), CompiledForward)
    restore_forwards(network)
    assert network.stage2.forward is patched
    assert "forward" not in vars(network.stage1)


class _Dropping(nn.Module):
    """BatchNorm and others that keep something from step to step, something random, a hook's place at every stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.stage2 = nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6, momentum=None), nn.ReLU())
        norm = nn.InstanceNorm2d(8, track_running_stats=True)
        self.stage3 = nn.Sequential(spectral_norm(nn.Conv2d(6, 8, 3, 2)), norm, EvoNorm2dB0(8))
        self.fc = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stage3(self.stage2(self.stage1(images))).mean((2, 3)))


def _saved(function: Callable[[], object]) -> int:
    """Bytes of what is kept for backward, each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(kept.values())


@pytest.mark.parametrize(("which", "share"), [("shared", -2), ("all", -2), ("all", "nothing")])
def test_recomputed_peers_are_the_same_and_keep_less(which: str, share: int | str) -> None:
    torch.manual_seed(0)
    plain = Peers(_Dropping(), DataSpec(4, torch.arange(4), (3, 32, 32)), 3, share=share)
    peers = copy.deepcopy(plain)
    peers.recompute_parts(which)
    images = torch.randn(8, 3, 32, 32)
    kept = []
    for one in (plain, peers):
        torch.manual_seed(1)
        outputs: list[NetworkOutput] = []
        kept.append(_saved(lambda one=one, outputs=outputs: outputs.extend(one(images))))
        sum(output.logits.square().sum() + output.stages[-1].sum() for output in outputs).backward()
    assert kept[1] < kept[0]
    for (name, expected), found in zip(plain.named_parameters(), peers.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)
    for (name, expected), found in zip(plain.named_buffers(), peers.buffers(), strict=True):
        assert torch.equal(found, expected), name  # running statistics took the batch in once
    peers.eval()
    assert torch.equal(peers(images)[-1].logits, plain.eval()(images)[-1].logits)
    peers.plain_forwards()
    assert not any(replaced(one, RecomputedForward) for one in peers.networks)


def test_only_the_trunk_is_recomputed(tiny_network: Make) -> None:
    peers = Peers(tiny_network(), DataSpec(4, torch.arange(4), (3, 32, 32)), 2, share=-2)
    peers.recompute_parts("shared")
    assert replaced(peers.student, RecomputedForward) == peers.trunk.modules
    assert not replaced(peers.networks[0], RecomputedForward)
    assert all(
        torch.equal(a.logits, b.logits) for a, b in zip(*(peers(torch.ones(2, 3, 32, 32)) for _ in "ab"), strict=True)
    )


def test_forwards_are_not_replaced_twice(tiny_network: Make) -> None:
    peers = Peers(tiny_network(), DataSpec(4, torch.arange(4), (3, 32, 32)), 2, share=-2)
    peers.recompute_parts("shared")
    peers.recompute_parts("all")
    peers.compile_parts()
    peers.recompute_parts("nothing")
    assert replaced(peers.student)
    peers.plain_forwards()
    assert not any(replaced(one, ReplacedForward) for one in peers.networks)


def test_what_cannot_be_recomputed_is_told(tiny_network: Make) -> None:
    data = DataSpec(4, torch.arange(4), (3, 32, 32))
    alone = Peers(tiny_network(), data)
    with pytest.raises(UserError, match="share nothing"):
        alone.recompute_parts("shared")
    with pytest.raises(UserError, match="unknown recompute 'al'"):
        alone.recompute_parts("al")
    overwriting = nn.Sequential(nn.SiLU(inplace=True), nn.Conv2d(3, 4, 3))
    replace_forwards([overwriting], RecomputedForward)
    logits = overwriting(torch.randn(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()
