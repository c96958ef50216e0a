"""Images in two parts of a data set of shared classes: told wherever they are, whatever their files are called."""

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from classmates.data.loading import load
from classmates.data.parts import Split, moments_of
from classmates.data.readers.folder import list_folder
from classmates.data.twins import Part, find_twins, notes_on_twins


def photos(folder, parts, size):
    """Write six photos of noise a class and part, all different."""
    draw = torch.Generator().manual_seed(0)
    for part in parts:
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for number in range(6):
                pixels = torch.randint(256, (size, size, 3), dtype=torch.uint8, generator=draw)
                Image.fromarray(pixels.numpy()).save(folder / part / name / f"{number}.png")
    return folder


def copied(folder, source, target):
    Image.open(folder / source).save(folder / target)


@pytest.mark.parametrize("size", [6, 70], ids=["in memory", "streamed"])
@pytest.mark.parametrize("part", ["val", "test"])
def test_a_training_image_in_another_part_is_named(tmp_path, size, part):
    folder = photos(tmp_path, ("train", "val", "test"), size)
    copied(folder, "train/cat/2.png", f"{part}/dog/other.bmp")
    (note,) = notes_on_twins(load(folder, image_size=size).notes)
    assert "another part: 1, such as" in note
    assert "cat/2.png of class 'cat' (train)" in note
    assert f"dog/other.bmp of class 'dog' ({part})" in note
    assert "scores on them are too good: remove one of the two" in note


def test_images_on_both_sides_of_a_split_of_ours_are_counted(tmp_path):
    """Which images become the test set is no concern of the user's; that two copies are on both sides is."""
    folder = photos(tmp_path, ("photos",), 8) / "photos"
    for name in ("cat", "dog"):
        for number in range(6):
            copied(folder, f"{name}/{number}.png", f"{name}/{number}-again.png")
    data = load(folder, val_fraction=0)
    train = {image.numpy().tobytes() for image in data.train.images}
    shared = sum(image.numpy().tobytes() in train for image in data.test.images)
    assert shared > 0
    (note,) = notes_on_twins(data.notes)
    assert f"another part: {shared}, such as" in note
    assert notes_on_twins(load(folder, seed=1).notes) == [note]  # whatever is held out for validation


def test_copies_within_a_part_and_other_images_are_not_told(tmp_path):
    folder = photos(tmp_path, ("train", "test"), 70)
    copied(folder, "train/cat/2.png", "train/cat/again.png")
    Image.open(folder / "train/cat/3.png").rotate(180).save(folder / "test/cat/turned.png")  # of the same mean
    assert notes_on_twins(load(folder, val_fraction=0).notes) == []


def test_parts_that_were_published_so_are_no_fault_of_the_user(tmp_path, monkeypatch):
    folder = photos(tmp_path, ("train", "test"), 8)
    copied(folder, "train/cat/2.png", "test/cat/again.png")
    monkeypatch.setattr("classmates.data.loading.is_folder", lambda *_: False)
    monkeypatch.setattr("classmates.data.loading.NAMED", {str(folder): None})
    monkeypatch.setattr("classmates.data.loading.list_named", lambda *_: list_folder(folder))
    (note,) = notes_on_twins(load(str(folder), val_fraction=0).notes)
    assert note.endswith("; the parts are as they were published")


def test_twins_are_those_of_comparing_every_pair():
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(2, (90, 2, 2, 1), dtype=torch.uint8, generator=draw)  # few values: many are alike
    parts = {
        name: Part(Split(torch.zeros(30, dtype=torch.int64), chunk), moments_of(chunk))
        for name, chunk in zip(("train", "val", "test"), pixels.split(30), strict=True)
    }
    every = [(name, index) for name in parts for index in range(30)]
    image = {key: parts[key[0]].split.images[key[1]].numpy().tobytes() for key in every}
    expected = set()
    for key in every:
        first = next(other for other in every if image[other] == image[key])
        if first[0] != key[0]:
            expected.add((first, key))
    found = find_twins(parts)
    assert len(found) == len(set(found)) == len(expected) > 20
    assert set(found) == expected


def test_a_dataset_in_python_and_parts_without_an_image():
    images = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    images[:20] = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    (note,) = notes_on_twins(load(TensorDataset(images, torch.arange(40) % 2)).notes)  # half of them all black
    assert "image " in note
    empty = Part(Split(torch.zeros(0, dtype=torch.int64), images[:0]), torch.zeros(0, 2, 3, dtype=torch.float64))
    assert find_twins({"train": empty, "test": empty}) == []
