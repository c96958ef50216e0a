"""Runs whose images are augmented by a transform of the user's own."""

import pytest
import torch
from torchvision.transforms import v2

from classmates.data.augmentation import Augmentation
from classmates.errors import UserError


def test_a_transform_of_ones_own_augments_a_run_and_is_kept_by_its_name(small_train, tmp_path):
    (tmp_path / "own.py").write_text(
        "from torchvision.transforms import v2\ndef make():\n    return v2.RandomInvert()"
    )
    name, how = f"{tmp_path}/own.py:make", {"epochs": 1, "report": False}
    by_name = small_train(augmentation=Augmentation(policy=name), out=tmp_path / "name", **how)
    itself = small_train(augmentation=Augmentation(policy=v2.RandomInvert()), out=tmp_path / "object", **how)
    plain = small_train(out=tmp_path / "plain", **how)
    assert by_name.record.config["augmentation"]["policy"] == name
    assert itself.record.config["augmentation"]["policy"] == "<RandomInvert>"
    assert by_name.record.test == itself.record.test != plain.record.test


def test_a_transform_that_does_not_return_images_is_refused_before_anything_is_written(small_train, tmp_path):
    with pytest.raises(UserError, match=r"in torch\.float32 of images of"):
        small_train(augmentation=Augmentation(policy=v2.ToDtype(torch.float32)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
