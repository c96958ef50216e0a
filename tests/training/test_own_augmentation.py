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


def test_a_run_goes_on_only_with_the_code_that_it_began_with(small_train, tmp_path, monkeypatch):
    file, beside, out = tmp_path / "own.py", tmp_path / "strengths.py", tmp_path / "run"
    monkeypatch.syspath_prepend(tmp_path)
    text = "import strengths\nfrom torchvision.transforms import v2\ndef make():\n    return v2.RandomInvert()"
    file.write_text(text)
    beside.write_text("strength = 1")
    how = {"augmentation": Augmentation(policy=f"{file}:make"), "epochs": 2, "out": out}
    with pytest.raises(KeyboardInterrupt):
        small_train(**how, callbacks=[StopAfterOneEpoch()])
    for changed, how_it_was in ((file, text), (beside, "strength = 1")):
        changed.write_text(f"{how_it_was}\nstrength = 2")
        with pytest.raises(UserError, match=r"own\.py': not the code that the run began with: put it back as it was"):
            small_train(**how, resume=True)
        changed.write_text(f"{how_it_was}  # which changes nothing")
    assert small_train(**how, resume=True).record.training.epochs == 2


def test_a_transform_that_does_not_return_images_is_refused_before_anything_is_written(small_train, tmp_path):
    with pytest.raises(UserError, match=r"in float32 of images of"):
        small_train(augmentation=Augmentation(policy=v2.ToDtype(torch.float32)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
