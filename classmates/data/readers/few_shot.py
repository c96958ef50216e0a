"""The data sets of few-shot learning that are known by name: their classes are split as in the literature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from classmates.data.parts import Files, ImageFile, Split
from classmates.data.readers.class_parts import (
    PICKLES,
    divided,
    list_class_parts,
    of_their_classes,
    together,
)
from classmates.data.readers.class_tables import find_tables
from classmates.data.readers.cub import cub200
from classmates.data.readers.downloads import cifar100, omniglot
from classmates.data.readers.images import opened
from classmates.data.readers.listing import Listing
from classmates.data.readers.parquet import parquet_in
from classmates.errors import UserError

CIFAR_FS = {
    "val": (
        *("beaver", "otter", "flatfish", "shark", "lamp", "television", "beetle", "butterfly", "sea", "camel"),
        *("cattle", "crab", "crocodile", "maple_tree", "motorcycle", "tractor"),
    ),
    "test": (
        *("whale", "poppy", "rose", "sweet_pepper", "telephone", "bed", "table", "wardrobe", "leopard", "plain"),
        *("chimpanzee", "fox", "snail", "worm", "baby", "man", "woman", "bicycle", "pickup_truck", "rocket"),
    ),
}
"""The split of Bertinetto et al. (2019; github.com/bertinetto/r2d2); the other 64 classes are to train on."""

FC100 = {"val": (8, 11, 13, 16), "test": (0, 7, 12, 14)}
"""The superclasses of CIFAR-100 by number, as split by Oreshkin et al. (TADAM, 2018); the others are to train on."""

OMNIGLOT_VALIDATION = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
"""The validation alphabets of Vinyals' split (github.com/jakesnell/prototypical-networks, splits/vinyals)."""

OMNIGLOT_TRAINING = 1200
"""The number of characters, the published parts in turn, alphabets sorted, that are not for testing (same source)."""


def cifar_fs(data_dir: Path) -> Listing:
    """CIFAR-FS, the 600 images of each class of CIFAR-100: 64 classes to train on, 16 to validate and 20 to test.

    Raises:
        UserError: CIFAR-100 is not there and cannot be downloaded.
    """
    return divided(_cifar100(data_dir, "fine"), "cifar-fs", CIFAR_FS)


def fc100(data_dir: Path) -> Listing:
    """FC100, the 600 images of each class of CIFAR-100: 60, 20 and 20 classes, which share no superclass.

    Raises:
        UserError: CIFAR-100 is not there and cannot be downloaded.
    """
    listing = _cifar100(data_dir, "fine")
    fine, coarse = (together(one).parts["train"].labels for one in (listing, _cifar100(data_dir, "coarse")))
    superclass = dict(zip(fine.tolist(), coarse.tolist(), strict=True))  # of each class by number
    named = [(name, superclass[number]) for number, name in enumerate(listing.class_names)]
    parts = {part: [name for name, number in named if number in numbers] for part, numbers in FC100.items()}
    return divided(listing, "fc100", parts)


def _cifar100(data_dir: Path, label: str) -> Listing:
    return parquet_in(data_dir, "cifar100", f"{label}_label") or cifar100(data_dir, label)


def omniglot_characters(data_dir: Path) -> Listing:
    """Omniglot, 20 drawings of each of 1,623 characters; turned by 90, 180 and 270 degrees they are other classes.

    Vinyals' split: 1,028 characters to train on (4,112 classes), 172 to validate (688) and 423 to test (1,692).

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    listing = omniglot(data_dir)
    first, last = listing.class_names[:OMNIGLOT_TRAINING], listing.class_names[OMNIGLOT_TRAINING:]
    val = [name for name in first if name.partition("/")[0] in OMNIGLOT_VALIDATION]
    upright = divided(listing, "omniglot", {"val": val, "test": last})
    parts = {part: _with_rotations(split) for part, split in upright.parts.items()}
    return replace(upright, parts=parts, class_names=parts["train"].class_names)


class Turned:
    """Image files turned: number n of N files is the file n // 4, by n % 4 quarters of a turn, anticlockwise."""

    def __init__(self, files: Files, indices: Tensor) -> None:
        """Take those of these numbers, [N]."""
        self.files = files
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> ImageFile:
        file, quarters = divmod(int(self.indices[index]), 4)
        with opened(self.files[file]) as image:
            return image.rotate(90 * quarters, expand=True)

    def identity(self) -> Iterator[bytes]:
        """Yield that of the files, and which are turned how; see ``Files``."""
        yield from self.files.identity()
        yield b"turned"
        yield self.indices.numpy().tobytes()

    def take(self, indices: Tensor, /) -> Turned:
        return Turned(self.files, self.indices[indices])


def _with_rotations(split: Split) -> Split:
    """Return four images for each: as it is and turned, each turn of a class a class of its own."""
    assert split.paths is not None
    names = tuple(f"{name}/rot{turn:03}" for name in split.class_names for turn in (0, 90, 180, 270))
    labels = (4 * split.labels[:, None] + torch.arange(4)).flatten()
    return Split(labels, paths=Turned(split.paths, torch.arange(len(labels))), class_names=names)


def cub_species(data_dir: Path) -> Listing:
    """CUB-200-2011, by species: 100 to train on, 50 to validate and 50 to test; to be fetched by hand.

    The split of Chen et al. (2019): species 1, 3, 5, ... for training, 2, 6, 10, ... for validation, the rest for
    testing.

    Raises:
        UserError: a file is missing, or the tables do not fit each other.
    """
    listing = cub200(data_dir)
    parts = {"val": listing.class_names[1::4], "test": listing.class_names[3::4]}
    return divided(listing, "cub200", parts)


def mini_imagenet_classes(data_dir: Path) -> Listing:
    """miniImageNet, 600 images of each of 64 classes to train on, 16 to validate and 20 to test; fetched by hand.

    ``train/WNID/*``, ``val/WNID/*`` and ``test/WNID/*``, or tables of them (see ``read_tables``) beside ``images/``
    or an ImageNet in the same ``data_dir``.

    Raises:
        UserError: no such folder or table is there, or they are damaged.
    """
    listing = _published("mini-imagenet", data_dir, ("mini-imagenet", "mini_imagenet", "miniImageNet"))
    return _expecting(listing, {"train": 64, "val": 16, "test": 20}, images=600)


def tiered_imagenet(data_dir: Path) -> Listing:
    """tieredImageNet, 779,165 images: 351 classes to train on, 97 to validate and 160 to test; fetched by hand.

    Folders or tables as of miniImageNet.

    Raises:
        UserError: no such folder or table is there, or they are damaged.
    """
    listing = _published("tiered-imagenet", data_dir, ("tiered-imagenet", "tiered_imagenet", "tieredImageNet"))
    return _expecting(listing, {"train": 351, "val": 97, "test": 160})


def _published(name: str, data_dir: Path, folders: Sequence[str]) -> Listing:
    """Return the parts found in ``data_dir`` or in the data set's own folder there, which may have any of the names.

    Parquet files are read first. Images that tables name are also looked for in an ImageNet in ``data_dir``.
    """
    if found := parquet_in(data_dir, name, None):
        return of_their_classes(found)
    places = [place for folder in (*folders, ".") if (place := data_dir / folder).is_dir()]
    for place in places:
        pickled = any(file.suffix in PICKLES for file in place.iterdir())
        if (place / "train").is_dir() or find_tables(place) or pickled:
            trees = [data_dir / tree / "train" for tree in ("imagenet", "ILSVRC2012")]
            return list_class_parts(place, name=name, trees=[tree for tree in trees if tree.is_dir()])
    raise UserError(
        f"{name}: {data_dir} has no train/, val/ and test/ with class folders, nor tables of them (train.csv or "
        f"train.json, ...), nor a folder {folders[0]}/ that has: put them there, or say with --data_dir where it is"
    )


def _expecting(listing: Listing, classes: Mapping[str, int], images: int | None = None) -> Listing:
    """Return the data set with a note where it does not have so many classes, and images of each."""
    found = {part: len(split.class_names) for part, split in listing.parts.items()}
    counts = torch.cat([split.labels.bincount() for split in listing.parts.values()])
    low, high = int(counts.min()), int(counts.max())
    if found == dict(classes) and (images is None or low == high == images):
        return listing
    each = "" if images is None else f" of {images} images each"
    note = (
        f"{listing.name} was published with {_listed(classes)} classes{each}; here are {_listed(found)}, "
        f"of {low if low == high else f'{low} to {high}'} images"
    )
    return replace(listing, notes=(*listing.notes, note))


def _listed(classes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {part}" for part, count in classes.items())
