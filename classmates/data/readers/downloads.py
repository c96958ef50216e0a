"""Small published data sets: those that torchvision downloads from their publishers, and scikit-learn's digits."""

from __future__ import annotations

import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100, FashionMNIST, Omniglot
from torchvision.datasets.utils import download_url, extract_archive

from classmates.data.parts import Split
from classmates.data.readers.listing import Listing
from classmates.data.readers.published_files import list_files
from classmates.data.readers.walking import Walk
from classmates.data.splits import TEST_SEED, stratified_split
from classmates.errors import UserError

Out = TypeVar("Out")


class Pixels:
    """Decoded images in one array, to be asked for as files are: [N, H, W] or [N, H, W, 3], uint8."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Image.Image:
        return Image.fromarray(self.images[index])

    def identity(self) -> Iterator[bytes]:
        """Yield a checksum of the pixels; see ``Files``."""
        yield zlib.crc32(np.ascontiguousarray(self.images).data).to_bytes(4, "big")

    def take(self, indices: Tensor, /) -> Pixels:
        return Pixels(self.images[indices.numpy()])


def digits(data_dir: Path) -> Listing:
    """Scikit-learn's handwritten digits, 1,797 grey images of 8x8 pixels; nothing to download."""
    from sklearn import datasets  # a second to import, needed here alone

    found = datasets.load_digits()
    file = Path(datasets.__file__).parent / "data" / "digits.csv.gz"
    shades = np.rint(found.images * 255 / 16).astype(np.uint8)
    every = Split(torch.from_numpy(found.target).long(), paths=Pixels(shades))
    kept, test = stratified_split(every.labels, 797, TEST_SEED)
    parts = {"train": every.take(kept), "test": every.take(test)}
    return Listing("digits", file, tuple("0123456789"), parts, stored_in=[file])


def cifar10(data_dir: Path) -> Listing:
    """CIFAR-10, 60,000 images of 32x32 pixels and 10 classes; downloaded, 170 MB.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    return _cifar("cifar10", CIFAR10, data_dir, "labels", "label_names")


def cifar100(data_dir: Path, label: str | None = None) -> Listing:
    """CIFAR-100, 60,000 images of 32x32 pixels and 100 classes, or 20 with label "coarse"; downloaded, 169 MB.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    kind = label or "fine"
    return _cifar("cifar100", CIFAR100, data_dir, f"{kind}_labels", f"{kind}_label_names")


def fashion_mnist(data_dir: Path) -> Listing:
    """Fashion-MNIST, 70,000 grey images of 28x28 pixels and 10 kinds of clothes; downloaded, 31 MB.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    files = [name for name, _ in FashionMNIST.resources]
    missing = f"{', '.join(files)} ({FashionMNIST.mirrors[0]}) into {data_dir / 'FashionMNIST' / 'raw'}"
    parts = {}
    for part in ("train", "test"):
        found = _fetch(
            "fashion-mnist", partial(FashionMNIST, data_dir, train=part == "train", download=True), missing
        )
        parts[part] = Split(found.targets.long(), paths=Pixels(found.data.numpy()))
    stored_in = [data_dir / "FashionMNIST" / "raw" / file.removesuffix(".gz") for file in files]
    return Listing("fashion-mnist", data_dir, tuple(FashionMNIST.classes), parts, stored_in=stored_in)


def omniglot(data_dir: Path) -> Listing:
    """Omniglot, 32,460 grey images of 105x105 pixels, 20 of each of 1,623 characters; downloaded, 15 MB.

    The characters of both published parts, which are split for few-shot learning, together.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    halves = Omniglot.zips_md5
    here = any((data_dir / f"{half}{end}").exists() for half in halves for end in ("", ".zip"))
    place = data_dir if here else data_dir / Omniglot.folder
    for half, md5 in halves.items():
        if not (place / half).is_dir():
            url = f"{Omniglot.download_url_prefix}/{half}.zip"
            _fetch("omniglot", partial(_unpack, url, place / half, md5), f"{half}.zip ({url}) into {place}")
    walk = Walk(place)
    alphabets = [f"{half}/{alphabet}" for half in halves for alphabet in walk.classes(half)]
    characters = [f"{alphabet}/{character}" for alphabet in alphabets for character in walk.classes(alphabet)]
    names = [character.partition("/")[2] for character in characters]
    return list_files("omniglot", place, names, {"train": map(walk.images, characters)})


def _cifar(name: str, kind: type[CIFAR10], data_dir: Path, labels: str, names: str) -> Listing:
    """labels and names: what they are called in the published files."""
    archive = f"{kind.filename} ({kind.url}) or its unpacked folder {kind.base_folder}/ into {data_dir}"
    _fetch(name, lambda: kind(data_dir, download=True), archive)
    folder = data_dir / kind.base_folder

    def read(file: str) -> dict[str, Any]:
        with (folder / file).open("rb") as opened:
            return pickle.load(opened, encoding="latin1")  # torchvision has compared its checksum

    parts = {}
    for part, files in (("train", kind.train_list), ("test", kind.test_list)):
        batches = [read(file) for file, _ in files]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        numbers = torch.tensor([number for batch in batches for number in batch[labels]])
        parts[part] = Split(numbers, paths=Pixels(np.ascontiguousarray(pixels)))
    stored_in = [folder / file for file, _ in (*kind.train_list, *kind.test_list)]
    return Listing(name, folder, tuple(read(kind.meta["filename"])[names]), parts, stored_in=stored_in)


def _unpack(url: str, target: Path, md5: str) -> None:
    """Download a zip archive, if it is not there, and unpack the folder in it; which appears when it is whole.

    Of processes that want the same at the same time one does it, and the others wait.
    """
    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / url.rpartition("/")[2]
    with FileLock(folder / f".{target.name}.lock"):
        if target.is_dir():
            return
        if not archive.exists():
            download_url(url, folder, md5=md5)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            try:
                extract_archive(archive, temporary)
            except BadZipFile as error:
                raise UserError(f"{archive} is damaged ({error}): remove it, and it is downloaded again") from error
            (Path(temporary) / target.name).rename(target)


def _fetch(name: str, make: Callable[[], Out], missing: str) -> Out:
    """Have torchvision read files that it finds or downloads; UserError with what is missing where it cannot."""
    try:
        return make()
    except (OSError, RuntimeError) as error:  # no network is an OSError
        raise UserError(
            f"{name} cannot be downloaded: {error}. Where the network is closed, put {missing}, "
            "or say with --data_dir where it is"
        ) from error
