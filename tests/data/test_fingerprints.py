"""Hashes by which images are known again: changed by whatever changes them, and by nothing else."""

import os
import shutil
import sys

import pytest
import torch
from PIL import Image

from classmates.data.fingerprints import digest, split_hash
from classmates.data.loading import load
from classmates.data.parts import Split
from classmates.data.readers.paths import Paths


def test_a_hash_tells_where_parts_end():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") == digest(b"ab")


def test_pixels_and_labels_in_memory_count():
    labels, images = torch.arange(4), torch.arange(48, dtype=torch.uint8).reshape(4, 2, 2, 3)
    known = split_hash(Split(labels, images))
    assert known == split_hash(Split(labels.clone(), images.clone(), class_names=("a", "b")))
    other = images.clone()
    other[3, 1, 1, 2] += 1
    assert len({known, split_hash(Split(labels, other)), split_hash(Split(labels.flip(0), images))}) == 3


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (70, 70), (number, 100 if name == "cat" else 0, 7)).save(
                tmp_path / "photos" / name / f"{number}.bmp"
            )
    return tmp_path / "photos"


def hashed(folder):
    return split_hash(load(folder, val_fraction=0).train)


def test_files_count_by_name_and_size_wherever_they_lie(photos, tmp_path):
    known = hashed(photos)
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert hashed(tmp_path / "elsewhere") == known
    (photos / "cat" / "0.bmp").rename(photos / "cat" / "00.bmp")
    assert hashed(photos) != known
    image = tmp_path / "elsewhere" / "cat" / "3.bmp"
    image.write_bytes(image.read_bytes() + b"\0")
    assert hashed(tmp_path / "elsewhere") != known


@pytest.mark.skipif(sys.platform == "darwin", reason="its names are UTF-8")
def test_names_need_not_be_utf8(photos):
    known = hashed(photos)
    names = [os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xea")]
    found = {known}
    for name in names:
        image = next(file for file in (photos / "cat").iterdir() if file.stem not in "123456789")
        image.rename(image.with_name(f"{name}.bmp"))
        found.add(hashed(photos))
    assert len(found) == 3


def test_files_of_a_tree_beside_the_folder_count_wherever_both_lie(photos, tmp_path):
    def of(root):
        return split_hash(Split(torch.arange(1), paths=Paths(root / "tables", [[str(root / "photos/cat/0.bmp")]])))

    shutil.copytree(photos, tmp_path / "else" / "photos")
    assert of(tmp_path) == of(tmp_path / "else")
