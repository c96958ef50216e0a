"""Images to score are known by the names of their classes, however a system writes these."""

import unicodedata

import pytest
import torch

from classmates.data.parts import Split
from classmates.data.readers.python_dataset import read_dataset
from classmates.errors import UserError
from classmates.evaluation.new_classes import find_support
from classmates.evaluation.scored_images import numbered_as
from tests.fixtures.class_folders import write

COMPOSED, APART = (unicodedata.normalize(form, "crêpe") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("ours", [COMPOSED, APART])
@pytest.mark.parametrize("theirs", [COMPOSED, APART])
def test_classes_are_the_same_with_accents_together_or_apart(ours, theirs):
    images = Split(torch.tensor([0, 1, 1]), torch.zeros(3, 8, 8, 1, dtype=torch.uint8), class_names=(theirs, "crab"))
    found = numbered_as(("crab", ours), images, "photos")
    assert found.labels.tolist() == [1, 0, 0]
    assert found.class_names == ("crab", ours)
    with pytest.raises(UserError, match="images of classes that the student does not know, 'crab'"):
        numbered_as(("cress", ours), images, "photos")


def test_a_dataset_in_python_has_composed_names():
    class Photos(torch.utils.data.Dataset):
        classes = ("crab", APART)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.zeros(8, 8), index

    assert read_dataset(Photos(), image_size=None, channels=None).train.class_names == ("crab", COMPOSED)


def test_a_support_of_two_folders_that_are_written_alike(tmp_path):
    for name in (COMPOSED, APART, "crab"):
        write(tmp_path / name / "0.png")
    with pytest.raises(UserError, match="two folders that are both written 'crêpe'"):
        find_support(tmp_path)
