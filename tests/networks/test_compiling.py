from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from torch import nn

from classmates.contracts import DataSpec
from classmates.networks.compiling import CompiledForward, compile_between, uncompile
from classmates.networks.peers import Peers

Make = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured as ever, but run as it is: no C++ compiler and no minute of waiting."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def compiled(network: nn.Module) -> list[str]:
    return [
        name for name, module in network.named_modules() if isinstance(vars(module).get("forward"), CompiledForward)
    ]


@pytest.mark.parametrize("backbone", ["plain", "vit"])
def test_compiled_peers_give_the_same_numbers(tiny_network: Make, backbone: str) -> None:
    torch.manual_seed(0)
    network = tiny_network() if backbone == "plain" else timm.create_model("test_vit", num_classes=4, img_size=32)
    peers = Peers(network, DataSpec(4, torch.arange(4), (3, 32, 32)), 3, share=-2)
    images = torch.randn(4, 3, 32, 32)

    def gradients() -> list[torch.Tensor]:
        peers.zero_grad()
        sum(view.logits.square().sum() + view.stages[-1].sum() for view in peers(images)).backward()
        return [parameter.grad for parameter in peers.parameters()]

    attributes = {name: set(vars(module)) for name, module in peers.named_modules()}
    expected, expected_gradients = peers(images), gradients()
    peers.compile_parts()
    assert all(compiled(one) for one in peers.networks)
    for _ in range(2):  # the hooks of the second step find the code that was compiled in the first
        for view, plain in zip(peers(images), expected, strict=True):
            torch.testing.assert_close(view.logits, plain.logits)
            torch.testing.assert_close(view.stages, plain.stages)
        torch.testing.assert_close(gradients(), expected_gradients)
    peers.uncompile()
    assert {name: set(vars(module)) for name, module in peers.named_modules()} == attributes
    for view, plain in zip(peers(images), expected, strict=True):
        assert torch.equal(view.logits, plain.logits)


def test_what_is_compiled_is_as_large_as_observing_lets_it(tiny_network: Make) -> None:
    network = nn.ModuleDict({"body": tiny_network(), "unseen": nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())})
    compile_between(network, ["body.stage1", "body.stage3.1", "body.fc"])
    assert compiled(network) == ["body.stage1", "body.stage2", "body.stage3.0", "body.stage3.1", "body.fc", "unseen"]


def test_a_module_s_own_forward_comes_back(tiny_network: Make) -> None:
    network = tiny_network()
    own = network.stage2.forward
    network.stage2.forward = lambda maps: own(maps) * 2
    patched = network.stage2.forward
    compile_between(network, ["fc"])
    uncompile(network)
    assert network.stage2.forward is patched
    assert "forward" not in vars(network.stage1)
