from dataclasses import replace

import torch
from PIL import Image

from classmates.data.parts import ImageData, Split
from classmates.data.readers.paths import Paths
from classmates.data.twins import name_of
from classmates.inspection.scanning import duplicates, scan


def in_memory(train, test, val=None):
    """Images of one pixel from their grey values."""

    def split(values):
        labels = torch.arange(len(values)) % 2
        return Split(labels, torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1), class_names=("a", "b"))

    return ImageData(
        name="values",
        channels=1,
        image_size=(1, 1),
        mean=(0.5,),
        std=(0.5,),
        train=split(train),
        val=None if val is None else split(val),
        test=split(test),
    )


def of_files(folder, names):
    """The same with training images from files."""
    train = Split(torch.arange(len(names)) % 2, paths=Paths(folder, [names]), class_names=("a", "b"))
    return replace(in_memory([], test=[3]), train=train)


def test_scan_has_a_row_for_each_image():
    found = scan(in_memory([1, 2, 3], test=[2, 9], val=[3, 4]))
    assert found["part"].tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    assert found["index"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert found["label"].tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert set(found["mode"]) == {"L"}
    assert (found[["width", "height"]] == 1).all(axis=None)
    hashes = found["pixels"].tolist()
    assert hashes[1] == hashes[5]
    assert hashes[2] == hashes[3]
    assert len(set(hashes)) == 5


def test_duplicates_come_in_groups_and_know_whether_they_are_in_several_parts():
    found = duplicates(scan(in_memory([7, 1, 2, 7, 5, 1], test=[2, 9], val=[3, 4])))
    assert list(zip(found["part"], found["index"], found["across"], strict=True)) == [
        ("train", 0, False),
        ("train", 3, False),
        ("train", 1, False),
        ("train", 5, False),
        ("train", 2, True),
        ("test", 0, True),
    ]
    assert duplicates(scan(in_memory([1, 2], test=[3]))).empty


def test_files_are_equal_by_their_pixels_however_they_are_stored(tmp_path):
    image = Image.new("RGB", (70, 80))
    image.putdata([(column % 256, column // 256, 7) for column in range(70 * 80)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.bmp")
    image.save(tmp_path / "c.webp", lossless=True)
    image.rotate(90, expand=True).save(tmp_path / "d.png", exif=exif)
    other = image.copy()
    other.putpixel((69, 79), (0, 0, 8))
    other.save(tmp_path / "e.png")
    image.convert("L").save(tmp_path / "f.png")
    names = ["a.png", "b.bmp", "c.webp", "d.png", "e.png", "f.png"]
    scanned = scan(of_files(tmp_path, names))
    assert duplicates(scanned)["index"].tolist() == [0, 1, 2, 3]
    train = scanned[scanned["part"] == "train"]
    assert set(zip(train["width"], train["height"], strict=True)) == {(70, 80)}
    assert train["mode"].tolist() == ["RGB"] * 5 + ["L"]


def test_equal_bytes_of_another_shape_are_no_duplicates(tmp_path):
    for name, size in (("a.png", (2, 3)), ("b.png", (3, 2)), ("c.png", (6, 1))):
        Image.new("L", size, 9).save(tmp_path / name)
    data = of_files(tmp_path, ["a.png", "b.png", "c.png"])
    assert duplicates(scan(data)).empty
    assert name_of(data.train, 1) == str(tmp_path / "b.png")
    assert name_of(data.test, 0) == "image 0"
