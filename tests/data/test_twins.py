"""Images in two parts of a data set of shared classes: told wherever they are, whatever their files are called."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from classmates.data.loading import load
from classmates.data.parts import Split, moments_of
from classmates.data.readers.folder import list_folder
from classmates.data.readers.images import decode
from classmates.data.twins import TWO_LABELS, Part, find_copies, find_twins, notes_on_twins


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


def pixels_of(split):
    files = split.images if split.images is not None else [decode(file, 3) for file in split.paths]
    return {np.asarray(image).tobytes() for image in files}


@pytest.mark.parametrize("size", [6, 70], ids=["in memory", "streamed"])
@pytest.mark.parametrize("parts", [("photos",), ("train", "test")], ids=["no parts", "a test set"])
def test_a_split_of_ours_has_every_copy_on_one_side(tmp_path, parts, size):
    folder = photos(tmp_path, parts, size)
    given = folder / parts[0]
    for number in range(6):
        copied(given, f"cat/{number}.png", f"cat/again-{number}.bmp")  # not beside it in the order of names
    copied(given, "cat/1.png", "dog/a cat.png")  # whichever class it is put into
    for seed in range(5):
        data = load(given if len(parts) == 1 else folder, image_size=size, val_fraction=0.3, seed=seed)
        train, val, test = (pixels_of(split) for split in (data.train, data.val, data.test))
        assert len(data.train) + len(data.val) + len(data.test) == 12 * len(parts) + 7
        assert not train & val
        assert not (train | val) & test
        assert notes_on_twins(data.notes) == []
        (note,) = [note for note in data.notes if "as another one" in note]
        assert note.startswith(f"13 images of '{data.name}' have the same pixels as another one, such as ")
        assert re.search(r"cat/0\.png and \S+cat/again-0\.bmp: where .* copies go together", note)


def test_a_class_of_copies_alone_is_on_both_sides_and_told(tmp_path):
    folder = photos(tmp_path, ("photos",), 8) / "photos"
    for number in range(1, 6):
        copied(folder, "cat/0.png", f"cat/{number}.png")
    data = load(folder, val_fraction=0)
    train = pixels_of(data.train)
    shared = sum(image.numpy().tobytes() in train for image in data.test.images)
    assert shared > 0
    assert set(data.test.labels.tolist()) == set(data.train.labels.tolist()) == {0, 1}
    (note,) = notes_on_twins(data.notes)
    assert f"another part: {shared}, such as" in note
    other = load(folder, seed=1, val_fraction=0.3)  # whatever is held out for validation
    assert notes_on_twins(other.notes) == [note]
    train = pixels_of(other.train)
    copied_too = sum(image.numpy().tobytes() in train for image in other.val.images)
    assert copied_too > 0
    assert f"held out for validation of which a copy is trained on: {copied_too}, as" in " ".join(other.notes)


def test_one_image_in_two_classes_is_named_with_both(tmp_path):
    folder = photos(tmp_path, ("photos",), 6) / "photos"
    assert not any(TWO_LABELS in note for note in load(folder).notes)
    copied(folder, "cat/0.png", "cat/again.bmp")  # of one class: a copy and no more
    assert not any(TWO_LABELS in note for note in load(folder).notes)
    copied(folder, "cat/1.png", "dog/a cat.png")
    (note,) = [note for note in load(folder).notes if TWO_LABELS in note]
    first, second = folder / "cat/1.png", folder / "dog/a cat.png"
    told = f"{first} of class 'cat' and {second} of class 'dog'; remove the wrong one"
    assert note == f"the same pixels have two labels: {told}"
    copied(folder, "cat/2.png", "dog/2 again.png")
    (note,) = [note for note in load(folder).notes if TWO_LABELS in note]
    assert note.endswith("remove the wrong one (1 more such pair: `classmates data` lists them all)")


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


def test_splits_of_published_data_do_not_depend_on_their_copies(tmp_path, monkeypatch):
    """The same images are held out as in comparisons that others have made."""
    folder = photos(tmp_path, ("train", "test"), 8)
    monkeypatch.setattr("classmates.data.loading.is_folder", lambda *_: False)
    monkeypatch.setattr("classmates.data.loading.NAMED", {str(folder): None})
    monkeypatch.setattr("classmates.data.loading.list_named", lambda *_: list_folder(folder))
    before = [str(file) for file in load(str(folder), val_fraction=0.25).val.paths]
    Image.open(folder / "train/cat/0.png").save(folder / "train/cat/3.png")
    data = load(str(folder), val_fraction=0.25)
    assert [str(file) for file in data.val.paths] == before
    assert not any("as another one" in note for note in data.notes)


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
    firsts = find_copies(parts["val"])
    own = [parts["val"].split.images[index].numpy().tobytes() for index in range(30)]
    assert firsts.tolist() == [own.index(pixels) for pixels in own]


def test_images_that_are_all_alike_are_copies_of_the_first():
    """Whatever number their moments are hashed to, also where it is the only one."""
    for shade in range(0, 256, 5):
        images = torch.full((4, 2, 2, 1), shade, dtype=torch.uint8)
        part = Part(Split(torch.zeros(4, dtype=torch.int64), images), moments_of(images))
        assert find_copies(part).tolist() == [0] * 4, f"shade {shade}"


def test_a_dataset_in_python_and_parts_without_an_image():
    images = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    images[:20] = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    data = load(TensorDataset(images, torch.arange(40) % 2))  # half of them all black
    assert any(
        "20 images of" in note and "another one, such as image 20 and image 21:" in note for note in data.notes
    )
    assert len({len(split.images.flatten(1).sum(1).unique()) == len(split) for split in (data.train, data.test)}) == 2
    empty = Part(Split(torch.zeros(0, dtype=torch.int64), images[:0]), torch.zeros(0, 2, 3, dtype=torch.float64))
    assert find_twins({"train": empty, "test": empty}) == []
