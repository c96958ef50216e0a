"""Training leaves a trace in normalisation layers, drawing leaves none; new classifiers begin small."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import classmates.models
from classmates.networks.building.learnt import begin_small, classifier_is_new, has_learnt

OF_TIMM = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_byobnet", "mobilenetv3_small_050")


def a_step(network, size, channels=3, num_classes=4):
    """Train for one step on noise."""
    images, labels = torch.randn(4, channels, size, size), torch.arange(4) % num_classes
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    F.cross_entropy(network.train()(images), labels).backward()
    optimizer.step()


@pytest.mark.parametrize("name", [*classmates.models.__all__, *OF_TIMM])
def test_no_network_is_drawn_as_if_it_had_learnt(name):
    assert not has_learnt(timm.create_model(name, num_classes=4))


@pytest.mark.parametrize(("name", "size"), [("resnet8", 16), ("densenet40_12", 16), *((one, 64) for one in OF_TIMM)])
def test_a_step_is_enough_to_show_it(name, size):
    network = timm.create_model(name, num_classes=4)
    a_step(network, size)
    assert has_learnt(network)


def test_statistics_alone_are_no_training():
    network = timm.create_model("resnet8", num_classes=4)
    network.train()(torch.randn(8, 3, 16, 16))
    assert not has_learnt(network)


def test_scales_that_are_drawn_are_no_training():
    network = timm.create_model("resnet8", num_classes=4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)  # as DCGAN draws them
    assert not has_learnt(network)


def test_what_has_no_values_yet_has_not_learnt():
    with torch.device("meta"):
        assert not has_learnt(timm.create_model("resnet8", num_classes=4))
    assert not has_learnt(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()))


def test_a_classifier_is_new_until_its_biases_differ():
    network = timm.create_model("test_efficientnet", num_classes=4)
    shape = (3, 64, 64)
    assert classifier_is_new(network, shape)
    a_step(network, 64)
    assert not classifier_is_new(network, shape)
    network.reset_classifier(7)  # which PyTorch draws, as small as begin_small does
    assert not classifier_is_new(network, shape)
    assert not begin_small(network, shape, always=False)


def test_a_classifier_drawn_for_a_thousand_classes_begins_small():
    network = timm.create_model("test_efficientnet", num_classes=4)
    bound = network.classifier.in_features**-0.5
    assert network.classifier.weight.abs().max() > bound
    assert begin_small(network, (3, 64, 64), always=False)
    assert bound / 2 < network.classifier.weight.abs().max() <= bound
    assert not network.classifier.bias.any()
    before = network.classifier.weight.clone()
    assert not begin_small(network, (3, 64, 64), always=False)
    assert begin_small(network, (3, 64, 64), always=True)
    assert not torch.equal(network.classifier.weight, before)
