"""Networks without their classifier, and with one for training."""

import pytest
import timm
import torch
from torch import nn

import classmates.models  # noqa: F401  (registers its networks with timm)
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import observe
from classmates.networks.building.embedding import Classified, build_network, with_classifier, without_classifier

SHAPE = (3, 32, 32)


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv3_small_050", "vit_tiny_patch16_224", "squeezenet"])
def test_without_its_classifier_a_network_returns_what_entered_it(name):
    torch.manual_seed(0)
    arguments = {"img_size": 32} if name.startswith("vit") else {}
    network = Squeezed() if name == "squeezenet" else timm.create_model(name, num_classes=6, **arguments)
    network.eval()
    images = torch.randn(4, *SHAPE)
    with torch.no_grad():
        expected = observe(network, inspect_network(network, SHAPE), images).embedding
        assert without_classifier(network, 6, SHAPE) is network
        found = network(images)
        torch.testing.assert_close(found, expected)
        assert torch.equal(without_classifier(network, 6, SHAPE)(images), found)  # and a second time nothing
    assert not any(module.out_features == 6 for module in network.modules() if isinstance(module, nn.Linear))


class Squeezed(nn.Module):
    """Classifies every place of its map by a 1×1 convolution and pools the logits."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 10, 3, 2), nn.ReLU())
        self.head = nn.Conv2d(10, 6, 1)

    def forward(self, images):
        return self.head(self.second(self.first(images))).mean((2, 3))


@pytest.mark.parametrize("name", ["conv4", "resnet8", "mobilenetv3_small_050"])
def test_a_name_is_built_without_a_classifier_and_gets_one_for_training(name):
    body = build_network(name, "embedding", 6, in_chans=3)
    network = with_classifier(body, 6, SHAPE)
    assert isinstance(network, Classified)
    assert with_classifier(network, 6, SHAPE) is network
    architecture = inspect_network(network, SHAPE)
    assert architecture.classifier == "classifier"
    assert [stage.name for stage in architecture.stages][-1].startswith("body.")
    network.eval()
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        output = observe(network, architecture, images)
        assert torch.equal(output.embedding, network.body(images))
        assert output.logits.shape == (2, 6)
    assert not [name for name, value in network.body.named_parameters() if value.shape[0] == 6]


def test_stages_named_by_the_user_are_found_in_the_training_network(tiny_network):
    network = tiny_network(num_classes=6)
    network.stage_names = ("stage1", "stage3")
    stages = inspect_network(with_classifier(network, 6, SHAPE), SHAPE).stages
    assert [stage.name for stage in stages] == ["body.stage1", "body.stage3"]


def test_a_network_whose_output_is_no_row_of_numbers_is_refused():
    with pytest.raises(
        UserError, match=r"must return logits or an embedding, \[batch, numbers\]; it returned \(2, 4"
    ):
        with_classifier(nn.Conv2d(3, 4, 3), 6, SHAPE)
    with pytest.raises(UserError, match="Conv2d cannot take images of 3 channels and 32x32 pixels"):
        with_classifier(nn.Conv2d(1, 4, 3), 6, SHAPE)
