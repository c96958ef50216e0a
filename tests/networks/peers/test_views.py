"""Every network on a view of its own: as if each were a whole network of its own, trunk included."""

import copy

import pytest
import timm
import torch

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import observe, observe_first
from classmates.networks.peers.peers import Peers


def views(count=3, batch=4):
    return torch.randn(count, batch, 3, 16, 16, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize("share", ["nothing", -1, -2])
def test_each_is_a_whole_network_on_its_own_view(share, tiny_network, tiny_data):
    peers = Peers(tiny_network(), tiny_data, 3, share=share)
    outputs = peers.forward_each(views())
    for network, output, images in zip(peers.networks, outputs, views(), strict=True):
        whole = copy.deepcopy(peers.student)
        whole.load_state_dict(network.state_dict(), strict=False)
        alone = observe(whole, peers.architecture, images)  # in training mode: BatchNorm's statistics are of its view
        assert torch.equal(alone.logits, output.logits)
        assert torch.equal(alone.embedding, output.embedding)
        assert all(map(torch.equal, alone.stages, output.stages))


def test_equal_views_are_what_one_image_is(tiny_network, tiny_data):
    peers = Peers(tiny_network(), tiny_data, 3, share=-2)
    images = views()[0]
    for output, same in zip(peers(images), peers.forward_each([images] * 3), strict=True):
        assert torch.equal(output.logits, same.logits)
        assert all(map(torch.equal, output.stages, same.stages))


def test_the_trunk_runs_once_a_view_and_nothing_of_the_student_beyond_it(tiny_network, tiny_data):
    network = tiny_network()
    peers = Peers(network, tiny_data, 3, share=-2)
    runs = []
    for name in ("stage1", "stage2", "fc"):
        network.get_submodule(name).register_forward_hook(lambda *_, n=name: runs.append(n))
    peers.forward_each(views())
    assert runs == ["stage1", "stage1", "stage1", "stage2", "fc"]
    assert peers.trunk.outputs == {}


def test_every_peer_teaches_the_trunk_by_its_own_view(tiny_network, tiny_data):
    peers = Peers(tiny_network(), tiny_data, 2, share=-1)
    one, other = (view.clone().requires_grad_() for view in views(2))
    peers.forward_each([one, other])[0].logits.square().sum().backward()
    assert one.grad.any()
    assert other.grad is None
    assert all(parameter.grad.any() for parameter in peers.student.stage1.parameters())
    assert all(parameter.grad is None for parameter in peers.student.stage3.parameters())


def test_other_architectures_have_views_too(tiny_network, tiny_data):
    peers = Peers(tiny_network(), tiny_data, 2, peer_models=[tiny_network(widths=(8, 12))]).eval()
    for network, output, images in zip(peers.networks, peers.forward_each(views(2)), views(2), strict=True):
        assert torch.equal(network(images), output.logits)


@pytest.mark.parametrize("name", ["resnet8", "densenet40_12"])
def test_the_first_stages_are_those_of_the_whole(name):
    network = timm.create_model(name, num_classes=4)
    architecture = inspect_network(network, (3, 16, 16))
    whole = observe(network, architecture, views()[0]).stages
    for count in range(1, len(whole)):
        first = observe_first(network, architecture, views()[0], count)
        assert len(first) == count
        assert all(map(torch.equal, first, whole[:count]))
    assert not any(module._forward_hooks for module in network.modules())


def test_an_error_on_the_way_is_not_taken_for_the_end(tiny_network):
    network = tiny_network()
    with pytest.raises(RuntimeError):
        observe_first(network, inspect_network(network, (3, 16, 16)), torch.randn(2, 5, 16, 16), 1)
