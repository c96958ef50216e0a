import pandas as pd
import pytest
import torch

from classmates.data.parts import ImageData, Split
from classmates.inspection.suggesting import Suggestion, suggest

LARGE = [(500, 375), (400, 400), (375, 500)]


def suggested(count, sizes, used, chosen=None):
    split = Split(torch.zeros(count, dtype=torch.int64), class_names=("a", "b"))
    size = used if isinstance(used, tuple) else (used, used)
    data = ImageData("x", 3, size, (0.5,) * 3, (0.2,) * 3, split, None, split)
    return suggest(data, pd.DataFrame(sizes, columns=["width", "height"]), chosen)


@pytest.mark.parametrize(
    ("count", "sizes", "used", "expected"),
    [
        (900, [(8, 8)], 8, Suggestion("resnet8", 24)),
        (1_000, [(32, 32)], 32, Suggestion("resnet20", 48)),
        (9_999, [(32, 32)], 32, Suggestion("resnet20", 96)),
        (45_000, [(32, 32)], 32, Suggestion("resnet32", 96)),
        (10_000, [(64, 48)], (48, 64), Suggestion("resnet32", 96)),
        (5_000, [(30, 20), (28, 32)], 224, Suggestion("resnet20", 96, 32)),
        (5_000, [(64, 50), (60, 64)], 224, Suggestion("resnet20", 96, 64)),
        (5_000, [(96, 96)], 96, Suggestion("resnet18", 96, None, True)),
        (400, [(120, 300), (100, 200)], 224, Suggestion("resnet18", 24, 128, True)),
        (400, LARGE, 224, Suggestion("resnet18", 24, None, True)),
        (99_999, LARGE, 224, Suggestion("resnet18", 96, None, True)),
        (1_281_167, LARGE, 224, Suggestion("resnet50", 192)),
    ],
)
def test_suggestions_by_size_and_count(count, sizes, used, expected):
    assert suggested(count, sizes, used) == expected


def test_an_image_size_of_the_users_own_is_kept():
    assert suggested(5_000, LARGE, 32, 32) == Suggestion("resnet20", 96, 32)
    assert suggested(5_000, [(32, 32)], 32, 32) == Suggestion("resnet20", 96, 32)


def test_as_text_it_is_what_one_types():
    assert str(Suggestion("resnet20", 96)) == "--model resnet20 --batch_size 96"
    assert str(Suggestion("resnet18", 24, 128, True)).endswith("--batch_size 24 --image_size 128 --pretrained true")
