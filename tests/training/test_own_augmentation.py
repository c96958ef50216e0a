"""Runs whose images are augmented by a transform of the user's own."""

import pytest
import torch
from torchvision.transforms import v2

from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from tests.training.test_same_images import StopAfterOneEpoch


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


def test_a_run_goes_on_only_with_the_file_that_it_began_with(small_train, tmp_path):
    file, out = tmp_path / "own.py", tmp_path / "run"
    text = "from torchvision.transforms import v2\ndef make():\n    return v2.RandomInvert()"
    file.write_text(text)
    how = {"augmentation": Augmentation(policy=f"{file}:make"), "epochs": 2, "out": out}
    with pytest.raises(KeyboardInterrupt):
        small_train(**how, callbacks=[StopAfterOneEpoch()])
    file.write_text(f"{text}  # changed")
    with pytest.raises(UserError, match=r"own\.py': not the code that the run began with: put it back as it was"):
        small_train(**how, resume=True)
    file.write_text(text)
    assert small_train(**how, resume=True).record.training.epochs == 2


def test_a_transform_that_does_not_return_images_is_refused_before_anything_is_written(small_train, tmp_path):
    with pytest.raises(UserError, match=r"in float32 of images of"):
        small_train(augmentation=Augmentation(policy=v2.ToDtype(torch.float32)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
