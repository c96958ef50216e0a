"""The mean and deviation by which images are normalised, where they are given."""

import math

import pytest
import torch

from classmates.errors import UserError
from classmates.runs.student import load_student
from tests.data.test_parts import image_data


def test_given_statistics_are_those_of_training_and_of_the_student(small_train, tmp_path):
    options = {"epochs": 1, "test": False}
    small_train(mean=[0.3], std=[0.5], out=tmp_path / "given", **options)
    small_train(out=tmp_path / "own", **options)
    (given, card), (own, own_card) = (load_student(tmp_path / name) for name in ("given", "own"))
    assert (card.mean, card.std) == ((0.3,), (0.5,))
    assert card.mean != own_card.mean
    assert not torch.equal(given.fc.weight, own.fc.weight)


def test_statistics_of_other_channels_are_averaged_with_a_note():
    data = image_data(1)
    taken = data.normalised_by((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    assert (taken.mean, taken.std) == (pytest.approx((0.4,)), pytest.approx((0.2,)))
    assert taken.notes == ("a note", "mean and std are for 3 channels: their means are taken for each of 1")
    assert data.normalised_by([0.5], [0.25]).notes == ("a note",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": [0.5]}, r"mean=\[0.5\], std=None: give both"),
        ({"std": [0.5]}, r"mean=None, std=\[0.5\]: give both"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "give both, each one number a channel"),
        ({"mean": [], "std": []}, r"std=\[\]: images are divided by them"),
        ({"mean": [0.5], "std": [0.0]}, r"std=\[0.0\]: images are divided by them"),
        ({"mean": [0.5], "std": [math.nan]}, "std=nan: give a finite number"),
        ({"mean": [math.inf], "std": [1.0]}, "mean=inf: give a finite number"),
    ],
)
def test_what_cannot_be_divided_by_is_refused_before_anything_is_written(small_train, tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        small_train(**given, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
