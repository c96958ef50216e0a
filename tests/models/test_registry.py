"""The networks are in timm's registry, under names that timm has not given to others."""

import pickle

import pytest
import timm
import timm.models
import torch

import classmates.models
from classmates.models.backbone import Backbone


@pytest.mark.parametrize("name", classmates.models.__all__)
def test_the_name_is_plain_unless_timm_has_it(name):
    assert timm.models.model_entrypoint(name) is getattr(classmates.models, name)
    assert not hasattr(timm.models, name)  # timm's own entry points are attributes of its package
    plain = name.removesuffix("_cifar")
    family = [known for known in timm.list_models(f"{plain}_*") if known not in classmates.models.__all__]
    in_timm = hasattr(timm.models, plain) or (plain == "mobilenetv1" and family)
    assert bool(in_timm) == name.endswith("_cifar")


@pytest.mark.parametrize("name", classmates.models.__all__)
def test_the_configuration_is_complete(name):
    with torch.device("meta"):
        network = timm.create_model(name)
    config = network.pretrained_cfg
    assert config["architecture"] == name
    assert isinstance(network.get_submodule(config["first_conv"]), torch.nn.Conv2d)
    assert network.get_submodule(config["first_conv"]).in_channels == 3
    assert network.get_submodule(config["classifier"]) is network.get_classifier()
    if name == "conv4":
        assert config["input_size"] == (3, 84, 84)
        assert network.num_classes == config["num_classes"] == 0
    else:
        assert config["input_size"] == (3, 32, 32)
        assert network.num_classes == config["num_classes"] == 100
        assert config["mean"] == (0.5071, 0.4867, 0.4408)
        assert config["std"] == (0.2675, 0.2565, 0.2761)
    assert timm.models.get_pretrained_cfg(name).architecture == name


def test_the_function_and_the_name_build_the_same_network():
    torch.manual_seed(0)
    by_name = timm.create_model("resnet8", num_classes=5, in_chans=1)
    torch.manual_seed(0)
    by_function = classmates.models.resnet8(num_classes=5, in_chans=1)
    assert isinstance(by_function, Backbone)
    images = torch.randn(2, 1, 16, 16)
    assert torch.equal(by_name(images), by_function(images))
    assert "laptops" in (classmates.models.resnet8.__doc__ or "")


def test_there_are_no_published_weights_to_ask_for():
    with pytest.raises(RuntimeError, match="No pretrained weights exist for resnet8"):
        timm.create_model("resnet8", pretrained=True)


def test_weights_come_back_from_a_file_under_another_number_of_classes(tmp_path):
    trained = timm.create_model("resnet8", num_classes=10)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth"), "num_classes": 10}
    again = timm.create_model("resnet8", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3)
    assert again.fc.out_features == 3
    assert torch.equal(again.layer3[0].conv1.weight, trained.layer3[0].conv1.weight)


def test_a_network_can_be_pickled():
    network = timm.create_model("densenet40_12", num_classes=3).eval()
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(network))(images), network(images))
