import gzip
import hashlib
import multiprocessing
import pickle
import struct
import zipfile
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST, Omniglot, utils

from classmates.data.loading import load
from classmates.data.readers.downloads import Pixels, cifar10, cifar100, digits, fashion_mnist, omniglot
from classmates.errors import UserError


@pytest.fixture(autouse=True)
def closed_network(monkeypatch):
    def closed(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(utils.urllib.request, "urlopen", closed)


def md5(content):
    return hashlib.md5(content).hexdigest()


def random_images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def publish(kind, folder, batches, meta, monkeypatch):
    """Small files in the layout of CIFAR's publisher, with their checksums. batches: {file: (images, labels)}."""

    def write(name, content):
        encoded = pickle.dumps(content)
        (folder / kind.base_folder).mkdir(parents=True, exist_ok=True)
        (folder / kind.base_folder / name).write_bytes(encoded)
        return [name, md5(encoded)]

    lists = {"train_list": [], "test_list": []}
    for name, (images, labels) in batches.items():
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        lists["test_list" if name.startswith("test") else "train_list"].append(write(name, {"data": flat, **labels}))
    _, checksum = write(kind.meta["filename"], meta)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": checksum})
    for name, files in lists.items():
        monkeypatch.setattr(kind, name, files)


def test_cifar10(tmp_path, monkeypatch):
    images = random_images(30)
    labels = [number % 2 for number in range(30)]
    batches = {
        "data_batch_1": (images[:10], {"labels": labels[:10]}),
        "data_batch_2": (images[10:20], {"labels": labels[10:20]}),
        "test_batch": (images[20:], {"labels": labels[20:]}),
    }
    publish(CIFAR10, tmp_path, batches, {"label_names": ["airplane", "automobile"]}, monkeypatch)
    data = load("cifar10", data_dir=tmp_path, val_fraction=0)
    assert data.class_names == ("airplane", "automobile")
    assert torch.equal(data.train.images, torch.from_numpy(images[:20]))
    assert torch.equal(data.test.images, torch.from_numpy(images[20:]))
    assert data.train.labels.tolist() == labels[:20]
    assert data.mean == pytest.approx((images[:20] / 255).mean((0, 1, 2)))
    larger = load("cifar10", data_dir=tmp_path, val_fraction=0, image_size=96)
    assert larger.train.images is None
    assert np.array_equal(larger.test.paths[3], images[23])


def test_cifar100_with_either_labels(tmp_path, monkeypatch):
    labels = {"fine_labels": [0, 1, 2, 0], "coarse_labels": [0, 1, 1, 0]}
    names = {"fine_label_names": ["apple", "bear", "lion"], "coarse_label_names": ["fruit", "carnivores"]}
    batches = {name: (random_images(4), labels) for name in ("train", "test")}
    publish(CIFAR100, tmp_path, batches, names, monkeypatch)
    fine, coarse = (load("cifar100", data_dir=tmp_path, label=label, val_fraction=0) for label in (None, "coarse"))
    assert fine.class_names == ("apple", "bear", "lion")
    assert fine.train.labels.tolist() == [0, 1, 2, 0]
    assert coarse.class_names == ("fruit", "carnivores")
    assert coarse.test.labels.tolist() == [0, 1, 1, 0]
    assert cifar100(tmp_path, "fine").class_names == fine.class_names


@pytest.mark.parametrize("reader", [cifar10, cifar100])
def test_a_closed_network_is_told_with_what_to_put_where(tmp_path, reader):
    kind = {cifar10: CIFAR10, cifar100: CIFAR100}[reader]
    with pytest.raises(UserError, match="no route to host") as error:
        reader(tmp_path)
    for part in ("cannot be downloaded", kind.filename, kind.url, f"{kind.base_folder}/ into {tmp_path}, or say"):
        assert part in str(error.value)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_fashion_mnist(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = np.arange(30, dtype=np.uint8) % 10
    for part, rows in (("train", slice(20)), ("t10k", slice(20, 30))):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images[rows]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels[rows]))
    data = load("fashion-mnist", data_dir=tmp_path, val_fraction=0)
    assert data.class_names[:2] == ("T-shirt/top", "Trouser")
    assert data.input_shape == (1, 28, 28)
    assert torch.equal(data.train.images[..., 0], torch.from_numpy(images[:20]))
    assert data.test.labels.tolist() == list(range(10))
    assert data.train.labels.dtype == torch.int64


def test_fashion_mnist_of_archives_and_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz, .* into .*FashionMNIST/raw, or say"):
        fashion_mnist(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    resources = []
    for name, _ in FashionMNIST.resources:
        array = np.zeros((2, 28, 28) if "images" in name else 2, dtype=np.uint8)
        archive = gzip.compress(idx(array))
        (raw / name).write_bytes(archive)
        resources.append((name, md5(archive)))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    assert len(fashion_mnist(tmp_path).parts["train"]) == 2


@pytest.fixture
def characters(tmp_path):
    """The two archives of Omniglot, with one alphabet of two characters and one of one, five images each."""
    for half, alphabets in (("images_background", {"Greek": 2}), ("images_evaluation", {"Tengwar": 1})):
        archive = tmp_path / f"{half}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for alphabet, count in alphabets.items():
                for character in range(1, count + 1):
                    for number in range(5):
                        image = tmp_path / "image.png"
                        Image.new("1", (105, 105), number % 2).save(image)
                        file.write(image, f"{half}/{alphabet}/character{character:02}/{number:04}.png")
    return tmp_path


def test_omniglot_is_unpacked_where_it_lies(characters):
    found = omniglot(characters)
    assert found.class_names == ("Greek/character01", "Greek/character02", "Tengwar/character01")
    assert found.parts["train"].labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert sorted(path.name for path in characters.iterdir() if path.is_dir()) == [
        "images_background",
        "images_evaluation",
    ]
    for half in Omniglot.zips_md5:
        (characters / f"{half}.zip").unlink()  # not needed any more
    data = load("omniglot", data_dir=characters, val_fraction=0)
    assert data.input_shape == (1, 105, 105)
    assert not data.flip
    assert (len(data.train), len(data.test)) == (12, 3)


def test_omniglot_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"images_background.zip \(https.*omniglot.*\) into .*omniglot-py"):
        omniglot(tmp_path)


def test_a_damaged_archive_of_omniglot_is_not_unpacked(characters):
    archive = characters / "images_evaluation.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"images_evaluation.zip is damaged .*: remove it"):
        omniglot(characters)
    assert not (characters / "images_evaluation").exists()


def test_processes_that_want_omniglot_at_once_unpack_it_once(characters):
    forked = multiprocessing.get_context("fork")  # which need not import anything again
    together = forked.Barrier(3)

    def unpack():
        together.wait()
        omniglot(characters)

    running = [forked.Process(target=unpack) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 3
    assert len(omniglot(characters).parts["train"]) == 15


def test_digits_are_listed_without_a_network(tmp_path):
    found = digits(tmp_path)
    assert {part: len(split) for part, split in found.parts.items()} == {"train": 1000, "test": 797}
    assert found.parts["train"].paths[0].size == (8, 8)
    assert list(tmp_path.iterdir()) == []


def test_pixels_are_taken_by_index():
    images = random_images(5)
    taken = Pixels(images).take(torch.tensor([4, 0])).take(torch.tensor([1]))
    assert len(taken) == 1
    assert np.array_equal(taken[0], images[0])
