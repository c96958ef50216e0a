"""Weights from a local file: whole, for other classes, for other channels, of another network, damaged, with code."""

import os
import pickle

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.errors import UserError
from classmates.networks.building.weights import load_pretrained


def network(**arguments):
    return timm.create_model("resnet8", **{"num_classes": 10, **arguments})


def test_the_same_network_takes_everything(tmp_path):
    source, target = network(), network()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    assert load_pretrained(target, tmp_path / "weights.safetensors", (3, 32, 32)) == []
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(source.eval()(images), target.eval()(images))


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_other_classes_get_a_new_classifier_that_begins_small_and_say_so(tmp_path, key):
    source, target = network(num_classes=7), network()
    with torch.no_grad():
        target.fc.weight.mul_(10)  # as networks draw it that are made for a thousand classes
    weights = source.state_dict()
    torch.save(weights if key is None else {key: weights, "epoch": 3}, tmp_path / "weights.pth")
    (note,) = load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32))
    assert "'fc' is new: the file's is for 7 classes" in note
    assert target.fc.weight.abs().max() <= 64**-0.5
    assert target.fc.weight.std() > 0.5 * 64**-0.5 / 3**0.5
    assert not target.fc.bias.any()
    assert torch.equal(target.layer1[0].conv1.weight, source.layer1[0].conv1.weight)


@pytest.mark.parametrize("keys", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_of_a_checkpoint_with_an_average_the_average_is_taken(tmp_path, keys):
    last, average, target = network(), network(), network()
    weights = dict(zip(keys, (last.state_dict(), average.state_dict()), strict=True))
    torch.save(weights, tmp_path / "weights.pth")
    assert load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32)) == []
    assert torch.equal(target.fc.weight, average.fc.weight)


def test_colour_weights_for_grey_images_are_summed(tmp_path):
    source, target = network(), network(in_chans=1)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    (note,) = load_pretrained(target, tmp_path / "weights.pth", (1, 32, 32))
    assert "from 3 to 1 channels" in note
    first = next(name for name, weight in source.state_dict().items() if weight.ndim == 4)
    torch.testing.assert_close(target.state_dict()[first], source.state_dict()[first].sum(1, keepdim=True))


def test_grey_weights_see_a_grey_image_in_colour_as_they_did(tmp_path):
    source, target = network(in_chans=1), network()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    (note,) = load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32))
    assert "from 1 to 3 channels" in note
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(target.eval()(images.expand(-1, 3, -1, -1)), source.eval()(images))


def test_torchvision_weights_fit_timms_network(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    target = timm.create_model("resnet18", num_classes=5)
    assert len(load_pretrained(target, tmp_path / "resnet18.pth", (3, 64, 64))) == 1


def test_another_network_is_named_with_its_shapes(tmp_path):
    torch.save(timm.create_model("resnet14", num_classes=10).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"layer1\.1\.conv1\.weight is not in the network"):
        load_pretrained(network(), tmp_path / "weights.pth", (3, 32, 32))


def test_missing_damaged_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        load_pretrained(network(), tmp_path / "nothing.pth", (3, 32, 32))
    (tmp_path / "damaged.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="damaged or no file of weights"):
        load_pretrained(network(), tmp_path / "damaged.safetensors", (3, 32, 32))


class Foreign:
    """What runs code of its own when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("key", [None, "state_dict_ema", "model_ema", "state_dict", "model"])
def test_no_pickle_is_run_wherever_the_weights_are(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timm.models._helpers, "load_state_dict", lambda *any_arguments: Foreign())
    weights = {**network().state_dict(), "foreign": Foreign()}
    torch.save(weights if key is None else {key: weights}, "evil.pth", pickle_module=pickle)
    with pytest.raises(UserError, match="damaged or no file of weights"):
        load_pretrained(network(), "evil.pth", (3, 32, 32))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_of_a_bare_pickle_nobody_is_advised_to_run_it(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Foreign()}, protocol))
    with pytest.raises(UserError, match="write its weights alone") as caught:
        load_pretrained(network(), "evil.pth", (3, 32, 32))
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_file_without_a_classifier_leaves_a_new_one_that_begins_small(tmp_path):
    weights = {name: value for name, value in network().state_dict().items() if not name.startswith("fc.")}
    torch.save(weights, tmp_path / "weights.pth")
    target = network()
    (note,) = load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32))
    assert "'fc' is new: the file has none" in note
    assert not target.fc.bias.any()
    assert torch.equal(target.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])


def test_a_transformers_weights_are_resampled_to_the_size_of_images(tmp_path):
    options = {"num_classes": 4, "depth": 2, "embed_dim": 12, "num_heads": 2}
    source, target = (timm.create_model("vit_tiny_patch16_224", img_size=size, **options) for size in (64, 32))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    (note,) = load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32))
    assert note == "'pos_embed' was resampled from (1, 17, 12) to (1, 5, 12)"
    torch.testing.assert_close(target.pos_embed[:, :1], source.pos_embed[:, :1])  # of the class token


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv.weight": 3}, r"its 'conv.weight' is no tensor"),
        ([1, 2], "damaged or no file of weights"),
        (torch.ones(2), "damaged or no file of weights"),
    ],
)
def test_files_of_anything_else_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=message):
        load_pretrained(network(), tmp_path / "other.pth", (3, 32, 32))


def test_every_convolution_that_sees_the_images_is_adapted_to_their_channels(tmp_path):
    source = timm.create_model("repvgg_a0", num_classes=4)
    target = timm.create_model("repvgg_a0", num_classes=4, in_chans=1)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    (note,) = load_pretrained(target, tmp_path / "weights.safetensors", (1, 32, 32))
    assert "and 1 beside it was adapted from 3 to 1 channels" in note
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(source.eval()(grey.repeat(1, 3, 1, 1)), target.eval()(grey))


def test_of_a_network_without_classifier_nothing_else_may_be_left_out(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, reg_tokens=4, depth=1)
    target = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=1)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="reg_token is not in the network"):
        load_pretrained(target, tmp_path / "weights.safetensors", (3, 32, 32))


def test_the_counter_of_averaged_weights_is_no_weight(tmp_path):
    average = torch.optim.swa_utils.AveragedModel(network())
    torch.save({"model_ema": average.state_dict(), "model": network().state_dict()}, tmp_path / "weights.pth")
    target = network()
    load_pretrained(target, tmp_path / "weights.pth", (3, 32, 32))
    assert torch.equal(target.fc.weight, average.module.fc.weight)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_every_head_for_other_classes_is_new(tmp_path, name):
    source = timm.create_model(name, num_classes=7)
    target = timm.create_model(name, num_classes=10)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    notes = load_pretrained(target, tmp_path / "weights.safetensors", (3, 224, 224))
    assert len(notes) == 2
    assert all("is new: the file's is for 7 classes" in note for note in notes)
    assert all(value.isfinite().all() for value in target.state_dict().values())
