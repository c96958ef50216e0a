"""The first weights of what training adds, and the layers of VGG that the gate of ONE meets."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.methods import CORSD, ONE, SD, DeepSupervision, OKDDip
from classmates.methods.one import pooling_after
from classmates.models import densenet40_12, resnet8, vgg16_bn_cifar
from classmates.models.backbone import Backbone, Stage
from classmates.models.vgg import initialize_vgg
from classmates.networks.backbone.architecture import inspect_network

DATA = DataSpec(6, torch.arange(48) % 6, (3, 16, 16))


def small_vgg(width: int = 32) -> Backbone:
    """Convolutions with bias, and stages that begin with the max-pool after the one before, as in VGG-16."""
    torch.manual_seed(0)
    stages, channels = [], 3
    for number in range(3):
        pool = [nn.MaxPool2d(2)] if number else []
        layers = [*pool, nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        stages.append(Stage(*layers, channels=width, reduction=2**number))
        channels = width
    return Backbone(nn.Identity(), stages, num_classes=6, initialize=initialize_vgg)


def fan_out_deviation(layer: nn.Conv2d) -> float:
    return math.sqrt(2 / (layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]))


def large_convolutions(part: nn.Module) -> list[nn.Conv2d]:
    """Those with so many weights that their deviation says how they were drawn."""
    return [layer for layer in part.modules() if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 1000]


@pytest.mark.parametrize("made", [SD, DeepSupervision, CORSD])
def test_convolutions_of_exits_and_relation_networks(made):
    for initialisation in ("released", "torch"):
        torch.manual_seed(0)
        method = made(resnet8(num_classes=6), DATA, initialisation=initialisation)
        added = large_convolutions(method.relation_networks if made is CORSD else method.shallow)
        assert len(added) >= 3
        ratios = torch.tensor([layer.weight.detach().std() / fan_out_deviation(layer) for layer in added])
        if initialisation == "released":
            torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0.1, atol=0)
        else:
            assert (ratios - 1).abs().max() > 0.2


def test_only_the_deepest_relation_network_begins_without_biases():
    def biases(initialisation: str) -> list[bool]:
        method = CORSD(resnet8(num_classes=6), DATA, initialisation=initialisation)
        return [
            any(bool(layer.bias.any()) for layer in network.modules() if isinstance(layer, nn.Linear))
            for network in method.relation_networks
        ]

    assert biases("released") == [True, True, False]
    assert biases("torch") == [True, True, True]


@pytest.mark.parametrize(
    ("network", "weights_drawn", "biases_zero"), [(small_vgg, True, True), (densenet40_12, False, True),
                                                 (resnet8, False, False)]
)  # fmt: skip
def test_gates_begin_as_the_layers_of_their_backbone(network, weights_drawn, biases_zero):
    for initialisation in ("released", "torch"):
        torch.manual_seed(0)
        options = {} if network is small_vgg else {"num_classes": 6}
        linear = ONE(network(**options), DATA, peers=4, initialisation=initialisation).gate.layers[0]
        released = initialisation == "released"
        as_torch = 1 / math.sqrt(3 * linear.in_features)
        deviation = 0.01 if weights_drawn and released else as_torch
        assert linear.weight.std().item() == pytest.approx(deviation, rel=0.2)
        assert (not linear.bias.any()) == (biases_zero and released)


def test_the_attention_of_vgg_begins_small():
    deviations = {}
    for initialisation in ("released", "torch"):
        attention = OKDDip(small_vgg(64), DATA, peers=3, initialisation=initialisation).attention
        deviations[initialisation] = [attention.query.weight.std().item(), attention.key.weight.std().item()]
    assert deviations["released"] == pytest.approx([0.01, 0.01], rel=0.1)
    assert deviations["torch"] == pytest.approx([1 / math.sqrt(3 * 64)] * 2, rel=0.1)


@pytest.mark.parametrize("made", [SD, DeepSupervision, CORSD, ONE, OKDDip])
def test_a_wrong_word_is_named(made):
    with pytest.raises(UserError, match="unknown initialisation 'kaiming': there are: released, torch"):
        made(resnet8(num_classes=6), DATA, initialisation="kaiming")


def test_the_gate_sees_what_enters_the_branches():
    one = ONE(small_vgg(), DATA).eval()
    stages = one.networks(torch.randn(5, 3, 16, 16))[-1].stages
    pooled = F.max_pool2d(stages[-2], 2).mean((2, 3))
    torch.testing.assert_close(one.gate(stages[-2]), one.gate.layers(pooled).softmax(-1))
    assert (one.gate.layers(stages[-2].mean((2, 3))).softmax(-1) - one.gate(stages[-2])).abs().max() > 1e-4
    assert not [name for name in one.state_dict() if "entrance" in name]


def test_only_vgg_pools_before_its_branches():
    vgg = inspect_network(vgg16_bn_cifar(num_classes=6), (3, 32, 32))
    assert [type(layer) for layer in pooling_after(vgg, "layer4")] == [nn.MaxPool2d]
    residual = inspect_network(resnet8(num_classes=6), (3, 32, 32))
    assert not len(pooling_after(residual, "layer2"))
