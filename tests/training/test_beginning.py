"""A network of the user's own, an object or a class in a file, begins from the weights that it brings."""

import dataclasses
import inspect

import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file
from torch import nn

from classmates.data.parts import ImageData, Split
from classmates.methods import MCL, Baseline
from classmates.networks.building.learnt import has_learnt
from classmates.training.beginning import begin_network, prepare_images
from classmates.training.config import TrainConfig
from classmates.training.settling import settle
from classmates.training.train import train


@pytest.fixture
def images():
    """As much of a data set of photos as training begins with."""
    split = Split(torch.arange(540) % 4, class_names=("a", "b", "c", "d"))
    return ImageData("photos", 3, (64, 96), (0.4,) * 3, (0.2,) * 3, split, None, split)


@pytest.fixture
def settled(images, monkeypatch):
    """``train``'s arguments for these images, as they are settled, with the notes."""
    monkeypatch.setattr("classmates.training.settling.out_of_reach", lambda name: "no network")

    def make(**given):
        defaults = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
        return settle(TrainConfig(**{**defaults, "data": "photos", **given}), images)

    return make


def learnt(name="test_efficientnet", num_classes=4):
    """Return a network whose every parameter differs from how it was drawn."""
    network = timm.create_model(name, num_classes=num_classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.fixture
def in_file(tmp_path):
    """A class in a file that loads weights itself, and one that does not."""
    save_file(learnt().state_dict(), tmp_path / "weights.safetensors")
    file = tmp_path / "mine.py"
    file.write_text(
        "import timm\nfrom safetensors.torch import load_file\n\n\n"
        "def trained(num_classes):\n"
        "    network = timm.create_model('test_efficientnet', num_classes=num_classes)\n"
        f"    network.load_state_dict(load_file({str(tmp_path / 'weights.safetensors')!r}))\n"
        "    return network\n\n\n"
        "def new(num_classes):\n"
        "    return timm.create_model('test_efficientnet', num_classes=num_classes)\n"
    )
    return file


def test_a_trained_object_is_fine_tuned(settled):
    config, notes = settled(model=learnt(), method=MCL)
    assert config.begins_from_weights
    assert config.optimizer == "AdamW"
    assert config.method.options["start"] == "identical"
    assert any(note.startswith("EfficientNet comes trained") and "--pretrained false" in note for note in notes)
    assert any(note.startswith("recipe 'photos-pretrained'") for note in notes)


@pytest.mark.parametrize("new", [True, False])
def test_what_is_said_counts(settled, new):
    network = timm.create_model("test_efficientnet", num_classes=4) if new else learnt()
    config, notes = settled(model=network, pretrained=new)
    assert config.begins_from_weights == new
    assert not any("comes trained" in note for note in notes)


def test_a_new_object_is_trained_from_scratch(settled):
    config, notes = settled(model=timm.create_model("test_efficientnet", num_classes=4), method=MCL)
    assert not config.begins_from_weights
    assert any(note.startswith("recipe 'photos-scratch'") for note in notes)


def test_a_class_in_a_file_is_looked_at_too(settled, in_file):
    config, notes = settled(model=f"{in_file}:trained")
    assert config.begins_from_weights
    assert any(f"{in_file}:trained comes trained" in note for note in notes)
    config, _ = settled(model=f"{in_file}:new")
    assert not config.begins_from_weights


def test_to_look_at_it_draws_nothing(settled, in_file):
    state = torch.random.get_rng_state()
    settled(model=f"{in_file}:new")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_trained_weights_are_left_as_they_are(settled, images, in_file):
    given = learnt()
    for model, weights in (
        (given, {name: value.clone() for name, value in given.state_dict().items()}),
        (f"{in_file}:trained", load_file(in_file.parent / "weights.safetensors")),
    ):
        config, _ = settled(model=model)
        network, notes = begin_network(config, images)
        assert not notes
        for name, value in network.state_dict().items():
            assert torch.equal(value, weights[name]), name


def test_a_new_classifier_on_a_trained_network_begins_small(settled, images):
    network = learnt()
    network.classifier = timm.create_model("test_efficientnet", num_classes=4).classifier
    bound = network.classifier.in_features**-0.5
    assert network.classifier.weight.abs().max() > bound
    config, _ = settled(model=network)
    begun, _ = begin_network(config, images)
    assert begun is network
    assert network.classifier.weight.abs().max() <= bound


def test_a_new_object_begins_as_one_by_name(settled, images):
    for model in ("test_efficientnet", timm.create_model("test_efficientnet", num_classes=4)):
        config, _ = settled(model=model)
        network, (note,) = begin_network(config, images)
        assert network.classifier.weight.abs().max() <= network.classifier.in_features**-0.5
        assert note.startswith("the classifier")
        assert note.endswith("begins small" if network is model else "which is for many classes")
        config, _ = settled(model=model, recipe="none")
        assert not begin_network(config, images)[1]


def test_a_classifier_that_may_have_learnt_is_left_where_nothing_else_shows_it(settled, images):
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    nn.init.normal_(network[-1].weight, std=2.0)
    weights = network[-1].weight.clone()
    for said in (None, True, False):
        config, _ = settled(model=network, pretrained=said, stages=["0", "1"])
        _, notes = begin_network(config, images)
        assert torch.equal(network[-1].weight, weights)
        assert notes == (
            ["pretrained true, though no normalisation layer of the network shows that it has learnt"] if said else []
        )


def test_a_class_in_a_file_is_told_that_weights_are_asked_for(settled, images, in_file):
    in_file.write_text(
        in_file.read_text() + "\n\ndef either(num_classes, pretrained=False):\n"
        "    return (trained if pretrained else new)(num_classes)\n"
    )
    for asked in (None, False, True):
        config, _ = settled(model=f"{in_file}:either", pretrained=asked)
        network, notes = begin_network(config, images)
        assert has_learnt(network) == config.begins_from_weights == bool(asked)
        assert not any("no normalisation layer" in note for note in notes)


def test_images_are_prepared_as_the_weights_of_timms_networks_ask(settled, images):
    config, _ = settled(model=learnt("test_resnet"))
    prepared = prepare_images(config, images)
    assert prepared.mean == pytest.approx(timm.get_pretrained_cfg("test_resnet").mean)
    assert "timm's weights for such a network (--mean and --std for others)" in prepared.notes[-1]
    own = dataclasses.replace(config, mean=(0.3, 0.3, 0.3), std=(0.1, 0.1, 0.1))
    assert prepare_images(own, images).mean == own.mean
    for other in (learnt("resnet8"), timm.create_model("test_resnet", num_classes=4)):
        config, _ = settled(model=other)
        assert prepare_images(config, images).mean == images.mean


def test_a_student_goes_on_learning(small_train, small_mcl, tmp_path):
    first = small_train(out=tmp_path / "first", epochs=8)
    again = small_train(model=first.student, method=small_mcl, out=tmp_path / "again", epochs=1)
    assert any("comes trained" in note for note in again.record.notes)
    assert again.record.config["pretrained"] is True
    assert again.record.config["method"]["init_args"]["start"] == "identical"
    scores = [run.record.test["student"]["top1"].value for run in (first, again)]
    assert scores[1] > scores[0] - 0.1


@pytest.mark.parametrize("method", [Baseline, lambda network, data: Baseline(network, data)])
def test_an_object_that_was_interrupted_goes_on_as_it_began(small_train, tmp_path, method):
    class Stops(Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    network = timm.create_model("resnet8", num_classes=10, in_chans=1)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        small_train(model=network, method=method, out=tmp_path / "run", callbacks=[Stops()])
    result = small_train(model=network, method=method, out=tmp_path / "run", resume=True)
    assert result.record.training.steps == small_train(model="resnet8", out=tmp_path / "plain").record.training.steps
    assert result.record.config["pretrained"] is False
