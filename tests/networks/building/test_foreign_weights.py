"""Files that other programs wrote: named for what they are, with what to do."""

import argparse

import pytest
import timm
import torch

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.errors import UserError
from classmates.networks.building.weights import load_pretrained


def network(classes=10):
    return timm.create_model("resnet8", num_classes=classes)


def load(target, content, path):
    torch.save(content, path)
    return load_pretrained(target, path, (3, 32, 32))


@pytest.mark.parametrize("prefix", ["model.", "network.", "student.net."])
@pytest.mark.parametrize("classes", [10, 7])
def test_checkpoints_of_lightning_are_taken_without_their_prefix(tmp_path, prefix, classes):
    source, target = network(classes), network()
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    content = {"state_dict": weights | {"criterion.weight": torch.ones(3)}, "pytorch-lightning_version": "2.5"}
    notes = load(target, content, tmp_path / "last.ckpt")
    assert f"begin with '{prefix}', as in a checkpoint of Lightning" in notes[0]
    (first, weight), *_ = source.state_dict().items()
    assert torch.equal(target.state_dict()[first], weight)
    assert any("is new: the file's is for 7 classes" in note for note in notes[1:]) == (classes == 7)


def test_a_file_with_several_such_networks_is_not_guessed_at(tmp_path):
    weights = {f"{peer}.{name}": value for peer in "ab" for name, value in network().state_dict().items()}
    with pytest.raises(UserError, match=r"holds several such networks, under 'a\.', 'b\.': give the weights of one"):
        load(network(), weights, tmp_path / "peers.pth")


def test_whole_networks_and_other_objects_are_named_and_not_opened(tmp_path):
    with pytest.raises(
        UserError, match=r"holds a whole network \(torch\.save\(model\)\).*model\.state_dict\(\), FILE"
    ):
        load(network(), torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "model.pt")
    content = {"state_dict": network().state_dict(), "settings": argparse.ArgumentParser}
    with pytest.raises(UserError, match=r"more than weights \(argparse\.ArgumentParser\)"):
        load(network(), content, tmp_path / "checkpoint.pth")
