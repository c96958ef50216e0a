import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.loading import load
from classmates.data.readers import opening as reading
from classmates.data.readers.folder import list_folder
from classmates.data.readers.listing import read_listing
from classmates.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=[16, 80], ids=["small", "large"])
def side(request):
    return request.param


@pytest.fixture
def folder(tmp_path, side):
    random = np.random.default_rng(0)
    for name in ("Füchse 狐", "owls"):
        place = tmp_path / "my photos" / name
        place.mkdir(parents=True)
        for number in range(10):
            save(place / f"bild {number}.png", random.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return tmp_path / "my photos"


def save(path, pixels):
    Image.fromarray(pixels).save(path)


@pytest.fixture
def opened(monkeypatch):
    """The image files opened so far."""
    paths = []
    openers = reading._open

    def remember(file):
        paths.append(file)
        return openers(file)

    monkeypatch.setattr(reading, "_open", remember)
    return paths


def assert_same(data, other):
    assert (data.mean, data.std, data.channels, data.image_size) == (
        other.mean,
        other.std,
        other.channels,
        other.image_size,
    )
    for part in ("train", "val", "test"):
        mine, theirs = getattr(data, part), getattr(other, part)
        assert torch.equal(mine.labels, theirs.labels)
        assert (mine.images is None) == (theirs.images is None)
        assert mine.images is None or torch.equal(mine.images, theirs.images)


def test_the_second_time_no_image_is_read(folder, opened):
    first = load(folder)
    assert opened
    opened.clear()
    assert_same(load(folder), first)
    assert_same(load(f"{folder}{os.sep}"), first)
    assert not opened


def test_other_settings_have_caches_of_their_own(folder, opened, side):
    for settings in ({}, {"channels": 1}, {"image_size": 8}):
        opened.clear()
        first = load(folder, **settings)
        assert opened
        opened.clear()
        again = load(folder, **settings, seed=3, val_fraction=0.2)  # what is split, or how, is not among them
        assert not opened
        assert (again.channels, again.image_size) == (first.channels, first.image_size)


def test_a_changed_file_is_seen(folder, opened, side):
    before = load(folder)
    path = folder / "owls" / "bild 3.png"
    save(path, np.full((side, side, 3), 255, np.uint8))
    opened.clear()
    after = load(folder)
    assert opened
    assert after.mean != before.mean
    path.unlink()
    fewer = load(folder)
    assert sum(map(len, (fewer.train, fewer.val, fewer.test))) == 19


def test_an_image_that_could_not_be_read_is_looked_at_again(folder, opened, side, monkeypatch):
    path = folder / "owls" / "bild 3.png"
    save(path, np.zeros((side + 1, side, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", side * side)
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of 20 images .* cannot be read(.|\n)*bild 3.png"):
            load(folder, image_size=8)
        skipping = load(folder, image_size=8, on_bad_image="skip")
        assert any("1 unreadable image skipped" in note for note in skipping.notes)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # the file itself stays as it is
    assert len(load(folder, image_size=8).train) > len(skipping.train)


def test_an_image_that_was_read_under_another_limit_is_looked_at_again(folder, opened, side, monkeypatch):
    save(folder / "owls" / "bild 3.png", np.zeros((side + 1, side, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", side * side)
    for _ in range(2):
        monkeypatch.setenv("CLASSMATES_MAX_IMAGE_PIXELS", str(10 * side * side))
        load(folder, image_size=8)
        monkeypatch.delenv("CLASSMATES_MAX_IMAGE_PIXELS")
        with pytest.raises(UserError, match=r"1 of 20 images .* cannot be read(.|\n)*bild 3.png"):
            load(folder, image_size=8)


def test_a_damaged_cache_is_made_again_and_said(folder, cache):
    first = load(folder)
    for path in cache.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    again = load(folder)
    assert_same(again, first)
    assert any("is damaged, and was made again" in note for note in again.notes)
    assert load(folder).notes == first.notes


def test_a_part_may_have_classes_of_its_own(folder):
    listing = list_folder(folder)
    own = replace(listing.parts["train"], class_names=("new", "other"))
    parts = read_listing(
        replace(listing, parts={**listing.parts, "test": own}), image_size=None, channels=None, on_bad_image="error"
    )
    assert parts.train.class_names == listing.class_names
    assert parts.test.class_names == parts.test.take(torch.tensor([0])).class_names == ("new", "other")


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (8, "20 images of 16-bit grey have no value above 255 of .* in 1 greys; if they come from 8 bits, .* by 256"),
        (
            12,
            "have no value above 4,095 of 65,535: .* nearly black, in 16 greys; if they come from 12 bits, .* by 16",
        ),
        (14, "if they come from 14 bits, multiply them by 4"),
        (15, None),
        (16, None),
    ],
)
def test_images_that_use_little_of_sixteen_bits_are_told(tmp_path, side, bits, said):
    for name in ("hand", "knee"):
        (tmp_path / "rays" / name).mkdir(parents=True)
        for number in range(10):
            ramp = np.linspace(number, 2**bits - 1, side * side).reshape(side, side).astype(np.uint16)
            save(tmp_path / "rays" / name / f"{number}.png", ramp)
    for _ in ("read", "from the cache"):
        notes = [note for note in load(tmp_path / "rays").notes if "16-bit" in note]
        assert len(notes) == (said is not None)
        assert said is None or re.search(said, notes[0])


def test_classes_that_differ_in_capitals_alone_are_told(tmp_path):
    random = np.random.default_rng(0)
    for name in ("Cat", "DOG", "cat", "owl"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(6):
            save(tmp_path / "pets" / name / f"{number}.png", random.integers(0, 256, (8, 8), dtype=np.uint8))
    [note] = [note for note in load(tmp_path / "pets").notes if "capitals" in note]
    assert "'Cat' and 'cat'; if they are one" in note
