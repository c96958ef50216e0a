import inspect

import pandas as pd
import pytest
import torch

from classmates.data.parts import ImageData, Split
from classmates.inspection.suggesting import Suggestion, suggest
from classmates.training import settling
from classmates.training.config import TrainConfig
from classmates.training.train import train

LITE = "tf_efficientnet_lite0"
LARGE = [(500, 375), (400, 400), (375, 500)]


def suggested(count, sizes, used, chosen=None):
    split = Split(torch.zeros(count, dtype=torch.int64), class_names=("a", "b"))
    size = used if isinstance(used, tuple) else (used, used)
    data = ImageData("x", 3, size, (0.5,) * 3, (0.2,) * 3, split, None, split)
    return suggest(data, pd.DataFrame(sizes, columns=["width", "height"]), chosen)


@pytest.mark.parametrize(
    ("count", "sizes", "used", "expected"),
    [
        (900, [(8, 8)], 8, Suggestion("small-images", "resnet8", 24, 100)),
        (1_000, [(32, 32)], 32, Suggestion("small-images", "resnet20", 24, 100)),
        (9_999, [(32, 32)], 32, Suggestion("small-images", "resnet20", 96, 100)),
        (45_000, [(32, 32)], 32, Suggestion("small-images", "resnet32", 96, 200)),
        (10_000, [(64, 48)], (48, 64), Suggestion("small-images", "resnet32", 96, 200)),
        (5_000, [(30, 20), (28, 32)], 224, Suggestion("small-images", "resnet20", 96, 100, 32)),
        (5_000, [(64, 50), (60, 64)], 224, Suggestion("small-images", "resnet20", 96, 100, 64)),
        (5_000, [(96, 96)], 96, Suggestion("photos-pretrained", LITE, 96, 10, None, True, 0.6)),
        (540, [(120, 300), (100, 200)], 224, Suggestion("photos-pretrained", LITE, 18, 13, 128, True, 0.6)),
        (120, LARGE, 224, Suggestion("photos-pretrained", LITE, 12, 40, None, True, 0.6)),
        (99_999, LARGE, 224, Suggestion("photos-pretrained", LITE, 96, 10, None, True, 0.6)),
        (1_281_167, LARGE, 224, Suggestion("large", "resnet50", 192, 90)),
    ],
)
def test_suggestions_by_size_and_count(count, sizes, used, expected):
    assert suggested(count, sizes, used) == expected


def test_an_image_size_of_the_users_own_is_kept():
    assert suggested(5_000, LARGE, 32, 32) == Suggestion("small-images", "resnet20", 96, 100, 32)


def test_what_train_chooses_is_told_and_the_command_leaves_it_to_train():
    """Where weights cannot be reached, train falls back on another recipe, with more epochs."""
    plain, photos = Suggestion("small-images", "resnet20", 96, 100), Suggestion("x", LITE, 18, 13, 128, True)
    assert str(plain) == "recipe small-images: 100 epochs"
    assert str(photos) == "recipe x: 13 epochs from published weights, where these can be reached"
    given = {"data": "my photos", "data_dir": None, "on_bad_image": "skip"}
    options = f"--model {LITE} --batch_size 18 --image_size 128"
    assert photos.command(given) == f"classmates train --data 'my photos' --on_bad_image skip {options}"
    assert plain.command({"data": []}) == "classmates.train(data=..., model='resnet20', batch_size=96)"


def test_it_is_what_train_chooses_by_itself(monkeypatch):
    """The advice, the settings of train and so those of compare come from one set of rules."""
    monkeypatch.setattr(settling, "out_of_reach", lambda name: None)
    split = Split(torch.arange(540) % 2, class_names=("a", "b"))
    data = ImageData("x", 3, (128, 128), (0.5,) * 3, (0.2,) * 3, split, None, split)
    advice = suggest(data, pd.DataFrame([(128, 128)], columns=["width", "height"]))
    defaults = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
    settled, _ = settling.settle(TrainConfig(**{**defaults, "data": "x"}), data)
    for name in ("model", "batch_size", "epochs", "pretrained"):
        assert getattr(settled, name) == getattr(advice, name)
    assert settled.augmentation.crop_scale == advice.crop_scale
