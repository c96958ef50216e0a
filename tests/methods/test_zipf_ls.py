import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.losses.zipf import count_votes, zipf_divergence, zipf_targets
from classmates.methods import ZipfLS


class ConvolutionalClassifier(nn.Sequential):
    """Logits by a 1x1 convolution at every place, then their mean."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1))
        self.append(nn.ReLU())
        self.append(nn.Conv2d(8, 4, 1))
        self.append(nn.AdaptiveAvgPool2d(1))
        self.append(nn.Flatten())


@pytest.mark.parametrize("upsample", [1, 2])
def test_the_total_is_the_formula(upsample, tiny_network, tiny_data, tiny_batch):
    method = ZipfLS(tiny_network(), tiny_data, smoothing=0.3, upsample=upsample)
    network = copy.deepcopy(method.student())
    output = method(tiny_batch)
    (one,) = output.outputs
    maps = one.stages[-1].detach()
    if upsample > 1:
        maps = F.interpolate(maps, scale_factor=upsample, mode="bilinear")
    places = torch.stack([network.fc(place) for place in maps.flatten(2).unbind(2)], dim=2).view(
        9, 4, *maps.shape[2:]
    )
    targets = zipf_targets(count_votes(places), tiny_batch.labels)
    expected = F.cross_entropy(one.logits, tiny_batch.labels)
    expected = expected + 0.3 * zipf_divergence(one.logits, targets, tiny_batch.labels)
    torch.testing.assert_close(output.total, expected)


def test_the_network_may_rank_by_its_logits(tiny_network, tiny_data, tiny_batch):
    method = ZipfLS(tiny_network(), tiny_data, ranking="logits")
    output = method(tiny_batch)
    logits = output.outputs[-1].logits
    expected = zipf_divergence(logits, zipf_targets(logits.detach(), tiny_batch.labels), tiny_batch.labels)
    torch.testing.assert_close(output.terms["smoothing"], expected)


def test_a_classifier_may_be_a_convolution(tiny_data, tiny_batch):
    network = ConvolutionalClassifier()
    network.stage_names = ["1", "3"]
    output = ZipfLS(network, tiny_data)(tiny_batch)
    assert output.terms["smoothing"] > 0


def test_places_that_cannot_vote_are_told_before_training():
    transformer = timm.create_model("test_vit", num_classes=4, img_size=32)
    data = DataSpec(4, torch.arange(40) % 4, (3, 32, 32))
    with pytest.raises(UserError, match=r"the embedding of VisionTransformer is not the mean .* ranking='logits'"):
        ZipfLS(transformer, data, ranking="places")
    with pytest.warns(UserWarning, match="VisionTransformer is not the mean .*: classes are ranked by its logits"):
        assert not ZipfLS(transformer, data).by_places
    assert ZipfLS(transformer, data, ranking="logits").notes == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": -1}, r"term \'smoothing\' is -1 \(option smoothing\)"),
        ({"upsample": 0}, "upsample=0"),
        ({"ranking": "vote"}, "unknown ranking 'vote'"),
    ],
)
def test_wrong_options_are_named(options, message, tiny_network, tiny_data):
    with pytest.raises(UserError, match=message):
        ZipfLS(tiny_network(), tiny_data, **options)


def test_two_classes_leave_nothing_to_rank(tiny_network):
    with pytest.raises(UserError, match="the data have 2 classes: ZipfLS needs 3 or more"):
        ZipfLS(tiny_network(num_classes=2), DataSpec(2, torch.arange(8) % 2, (3, 16, 16)))
