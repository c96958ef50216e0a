import os

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import IterableDataset, TensorDataset

from classmates.data.readers.images import decode
from classmates.data.readers.python_dataset import read_dataset
from classmates.errors import UserError


class Items(list):
    """A map-style dataset needs an index and a length, nothing more."""


def read(items, image_size=None, channels=None):
    return read_dataset(items, image_size=image_size, channels=channels)


def test_every_kind_of_image_gives_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [Image.fromarray(pixels), pixels, tensor, tensor / 255, pixels.astype(np.float32) / 255]
    source = read(Items((image, index % 2) for index, image in enumerate(kinds)))
    assert source.train.images.shape == (5, 4, 5, 3)
    assert source.train.images.is_contiguous()
    for image in source.train.images:
        assert torch.equal(image, torch.from_numpy(pixels))
    assert source.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert source.train.class_names == ("0", "1")
    assert source.image_size == (4, 5)
    assert source.test is source.val is None


def test_grey_images_keep_one_channel_unless_asked():
    grey = torch.full((6, 4, 4), 7, dtype=torch.uint8)
    dataset = TensorDataset(grey, torch.tensor([0, 1] * 3))
    assert read(dataset).train.images.shape == (6, 4, 4, 1)
    assert read(dataset, channels=3).train.images.shape == (6, 4, 4, 3)
    mixed = Items([(grey[0], 0), (Image.new("RGB", (4, 4)), 1)])
    assert read(mixed).train.images.shape == (2, 4, 4, 3)


def test_class_names_come_from_the_dataset():
    dataset = Items((Image.new("L", (2, 2), label), label) for label in (0, 1))
    dataset.classes = ["cat", "dog"]
    assert read(dataset).train.class_names == ("cat", "dog")
    dataset.classes = ["cat", "dog", "emu"]
    assert read(dataset).train.class_names == ("cat", "dog", "emu")
    dataset.classes = ["cat"]
    with pytest.raises(UserError, match="names 1 classes but has a label 1"):
        read(dataset)


def test_images_of_different_sizes_need_an_image_size():
    dataset = Items([(Image.new("L", (4, 4)), 0), (Image.new("L", (6, 8)), 1)])
    with pytest.raises(UserError, match="2 different sizes: give an image_size"):
        read(dataset)
    assert read(dataset, image_size=5).train.images.shape == (2, 5, 5, 1)


class Endless(IterableDataset):
    def __iter__(self):
        yield None


IMAGE = Image.new("L", (2, 2))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "Endless has no length"),
        (Items(), "Items is empty"),
        (Items([IMAGE]), r"item 0 of the dataset is a Image; it must be \(image, label\)"),
        (Items([(IMAGE, 0), ("cat.png", 1)]), "image 1 of the dataset is a str"),
        (Items([(torch.zeros(2), 0)]), "image 0 of the dataset is a Tensor"),
        (Items([(torch.tensor([[-1.5, 2.0]]), 0)]), r"values from -1\.5 to 2; floats must lie in 0\.\.1"),
        (Items([(torch.full((2, 2), torch.nan), 0)]), "values from nan to nan"),
        (
            Items([(torch.zeros(2, 2, 2, dtype=torch.uint8), 0)]),
            r"2 channels of torch\.uint8; there must be 1, 3 or 4",
        ),
        (Items([(torch.zeros(1, 2, 2, dtype=torch.int32), 0)]), r"1 channels of torch\.int32"),
        (
            Items([(Image.new("F", (2, 2)), 0)]),
            "image 0 of the dataset cannot be read: its pixels are floating-point",
        ),
        (Items([(Image.new("I", (2, 2), 70000), 0)]), "image 0 of the dataset cannot be read: .* beyond 16 bits"),
        (Items([(IMAGE, float("inf"))]), "label 0 of the dataset is inf"),
        (Items([(IMAGE, "cat")]), "label 0 of the dataset is 'cat'; it must be a whole number"),
        (Items([(IMAGE, 0.5)]), r"label 0 of the dataset is 0\.5"),
        (Items([(IMAGE, -1)]), "label 0 of the dataset is -1"),
    ],
)
def test_what_is_no_dataset_of_images_is_refused(dataset, message):
    with pytest.raises(UserError, match=message):
        read(dataset)


class Lazy:
    """Files that are opened when they are asked for, and read by whoever asked."""

    def __init__(self, folder, count):
        self.files = [folder / f"{number}.png" for number in range(count)]
        for number, file in enumerate(self.files):
            Image.new("RGB", (4, 4), (number % 256, 0, 0)).save(file)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return Image.open(self.files[index]), index % 2


def test_files_are_not_kept_open(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 50, hard))
    try:
        source = read(Lazy(tmp_path, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert source.train.images[:, 0, 0, 0].tolist() == [*range(100)]


def test_an_image_is_as_its_file_would_be_read(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    items = Items([(Image.open(tmp_path / "turned.png"), 0)])
    (image,) = read(items).train.images
    assert torch.equal(read(items).train.images[0], image)  # the caller's image is as it was
    assert np.array_equal(image.numpy(), np.asarray(decode(tmp_path / "turned.png", 3)))
    assert image.shape == (9, 6, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_every_grey_image_keeps_one_channel(mode):
    assert read(Items([(Image.new(mode, (4, 4)), 0)])).train.images.shape == (1, 4, 4, 1)
