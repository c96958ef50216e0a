"""``load``: a data set by its name, folder or address, split, counted and measured."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from classmates._memory import require_memory
from classmates.data.class_splits import split_classes
from classmates.data.image_splits import split_images
from classmates.data.parts import ImageData, Source, Split
from classmates.data.readers.by_name import NAMED, list_named
from classmates.data.readers.class_parts import list_class_parts, of_their_classes
from classmates.data.readers.folder import find_parts, list_folder, list_part
from classmates.data.readers.hub import list_hub
from classmates.data.readers.label_table import is_table, list_table
from classmates.data.readers.listing import Listing, listed, read_listing, without_images
from classmates.data.readers.parquet import find_shards, list_parquet
from classmates.data.readers.python_dataset import read_dataset
from classmates.data.readers.remote import is_url, local_copy
from classmates.data.readers.walking import told_of_unreadable
from classmates.data.readers.webdataset import find_tars, list_webdataset
from classmates.errors import UserError, check_choice, unknown

__all__ = ["NAMES", "ImageData", "Split", "load"]

Classes = Literal["shared", "disjoint"]
"""Whether the parts of a data set have the same classes, or each its own."""

NAMES = tuple(NAMED)
"""The data sets that are known by name."""


def load(
    data: str | Path | Dataset[Any],
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    classes: Classes = "shared",
) -> ImageData:
    """Load a data set and split it: the test set first, then the validation set, then a smaller training set.

    With ``classes="disjoint"``, for few-shot learning, the three have different classes: what is said below of images
    that are split off is then of classes (see ``split_classes``).

    Args:
        data: a map-style dataset of (image, label); ``hf:NAME`` or ``hf:NAME:CONFIG``, a data set of the Hugging Face
            Hub; a folder with ``train/CLASS/*`` and, if you have them, ``val/`` and ``test/``, or with class folders
            right in it, of parquet files as on the Hub, or of tar files as WebDataset has them; such files at an
            address (``s3://...``, ``https://...``); a table (``.csv``, ``.tsv``) of image files and labels; or a name
            (``digits``, ``cifar100``, ...). A text is a folder if it has a slash or such a folder exists, else a
            name; a known name is one where a ``data_dir`` is given. Without test images, a stratified 20 % are split
            off, always the same ones. Images with the same pixels (JPEGs of 512 pixels or more: as JPEGs) stay on one
            side of a split, except in data sets known by name and where a class would then be on one side only.
        data_dir: where the files of a data set known by name are, or are downloaded to; with ``hf:``, where
            ``datasets`` keeps what it downloads; where the images of a table are, if not below its own folder.
        label: which labels, where the data have several: a column of a table, of parquet files or of a set of the
            Hub, the extension of a tar file's labels or a field of its ``.json``, or ``fine`` or ``coarse`` of
            ``cifar100``.
        image_size: side in pixels. Default: the images' own where all are of one size up to 64 pixels a side, or
            square and up to 224; for others 32 or 64 where none is larger, 128 where the shorter side of half of
            them is below 160 pixels, else 224. Up to 64 the images are kept in memory.
        channels: 1 (grey) or 3; images are converted. Default: 1 if every image is grey.
        train_size: train on only so many images, each class in proportion.
        val_fraction: how much of the training images to validate on where no validation images are given, each class
            in proportion; 0 for none.
        seed: decides which images become validation and, with train_size, training images.
        on_bad_image: what to do about images that cannot be read: stop, or leave them out and say so.
        classes: whether training, validation and test images are of the same classes, or each of its own.

    Raises:
        UserError: any of these cannot work, or the images cannot.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size is {image_size}; give a number of pixels, 1 or more")
    require_memory(f"image_size={image_size}", "the pixels of one image", 3 * (image_size or 0) ** 2)
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}; images have 1 (grey) or 3 (colour)")
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction is {val_fraction}; give a fraction from 0 (no validation) to below 1")
    if on_bad_image not in ("error", "skip"):
        raise unknown("on_bad_image", on_bad_image, ("error", "skip"))
    check_choice("classes", classes, Classes)

    if not isinstance(data, (str, Path)):
        _require_unused("a dataset in Python", data_dir=data_dir, label=label)
        source = read_dataset(data, image_size=image_size, channels=channels)
    else:
        listing = _with_training(_find(data, data_dir, label, classes))
        source = read_listing(listing, image_size=image_size, channels=channels, on_bad_image=on_bad_image)
    images = source.train
    assert images is not None  # readers find training images or raise
    published = isinstance(data, str) and data in NAMED and not is_folder(data, data_dir)
    if classes == "disjoint":
        return split_classes(source, train_size, val_fraction, seed, published=published)
    _require_classes(images, source.name)
    try:
        return split_images(source, train_size, val_fraction, seed, published=published)
    except UserError as error:
        raise CannotSplit(error, source) from error


class CannotSplit(UserError):
    """The images cannot be divided into parts as asked; source: what there is."""

    def __init__(self, message: object, source: Source | None = None):
        super().__init__(message)
        self.source = source


def load_part(
    data: str | Path | Dataset[Any],
    part: str,
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
) -> Source:
    """Load the images that are to be scored, not learnt from: nothing is split off, and classes may be missing.

    Args:
        data: as in ``load``. All of a map-style dataset is taken.
        part: "train", "val" or "test" of data that have parts; all of data that have none.

    The other arguments are as in ``load``.

    Returns:
        The images as ``test``, with the classes of its own.

    Raises:
        UserError: there is no such part, or images cannot be read.
    """
    if not isinstance(data, (str, Path)):
        _require_unused("a dataset in Python", data_dir=data_dir, label=label)
        source = read_dataset(data, image_size=image_size, channels=channels)
        return replace(source, train=None, test=source.train)
    if _is_class_folders(data, data_dir):
        _require_unused(f"the folder {data}, of class folders", data_dir=data_dir, label=label)
        listing = list_part(Path(data).expanduser(), part)
    else:
        listing = _find(data, data_dir, label, "shared").only(part)
    return read_listing(listing, image_size=image_size, channels=channels, on_bad_image=on_bad_image)


def _find(data: str | Path, data_dir: str | Path | None, label: str | None, classes: Classes) -> Listing:
    """Find what a text or path stands for, by the rule that ``load`` states."""
    if isinstance(data, str) and not data.strip():
        raise UserError("data is empty: give a folder, a table or the name of a data set; '.' for this folder")
    data_dir = None if data_dir is None else Path(data_dir).expanduser()
    if isinstance(data, str) and data.startswith("hf:"):
        return _own_classes(list_hub(data.removeprefix("hf:"), data_dir, label), classes)
    if is_url(data):
        listing = _find_folder(local_copy(str(data)), str(data), data_dir, label, classes)
        return replace(listing, name=str(data).rstrip("/").rpartition("/")[2])
    if is_table(data):
        return _own_classes(list_table(Path(data).expanduser(), data_dir, label), classes)
    if is_folder(data, data_dir):
        return _find_folder(Path(data).expanduser(), str(data), data_dir, label, classes)
    if data in NAMED:
        listing = list_named(str(data), data_dir, label, classes)
        if data_dir is None or Path(listing.where).is_relative_to(data_dir):
            return listing
        # No error: data sets of which some have files are compared with one data_dir.
        return _noting(listing, f"data_dir '{data_dir}' is not used: {data} comes from {listing.where}")
    raise UserError(
        f"{unknown('data set', str(data), NAMED)} (or give the path of a folder of class folders, of parquet "
        "or of tar files, or of a table of files and labels, or hf:NAME for a data set of the Hub)"
    )


def is_folder(data: str | Path, data_dir: str | Path | None = None) -> bool:
    """Return whether data are a folder or a table, not a data set's name, whose files would be in ``data_dir``."""
    if isinstance(data, str) and data in NAMED and data_dir is not None:
        return False
    return (
        isinstance(data, Path) or os.sep in data or "/" in data or is_table(data) or Path(data).expanduser().is_dir()
    )


@told_of_unreadable()
def refuse_among_classes(out: Path, data: str | Path, data_dir: str | Path | None = None) -> None:
    """Raise UserError where a folder that is about to be written would be a class of the images from then on."""
    if not _is_class_folders(data, data_dir) or not (folder := Path(data).expanduser()).is_dir():
        return
    layout = find_parts(folder)
    if any(out.resolve().is_relative_to((layout.place / part).resolve()) for part in layout.parts.values()):
        raise UserError(
            f"'{out}' would lie among the classes in '{data}', and be taken for one of them: name another place with "
            "--out, or give the images a folder of their own"
        )


def _is_class_folders(data: object, data_dir: str | Path | None) -> bool:
    """Return whether data are a folder of class folders, and not of parquet or tar files."""
    if not isinstance(data, (str, Path)) or not is_folder(data, data_dir) or is_url(data) or is_table(data):
        return False
    folder = Path(data).expanduser()
    return not find_shards(folder) and not find_tars(folder)


def _find_folder(folder: Path, data: str, data_dir: Path | None, label: str | None, classes: Classes) -> Listing:
    if shards := find_shards(folder):
        _require_unused(f"the folder {folder}", data_dir=data_dir)
        listing = _own_classes(list_parquet(folder, shards, label=label, name=folder.resolve().name), classes)
    elif tars := find_tars(folder):
        _require_unused(f"the folder {folder}", data_dir=data_dir)
        listing = _own_classes(list_webdataset(folder, tars, label=label, name=folder.resolve().name), classes)
    else:
        _require_unused(f"the folder {folder}, of class folders", data_dir=data_dir, label=label)
        listing = (list_folder if classes == "shared" else list_class_parts)(folder)
    if data not in NAMED:
        return listing
    return _noting(listing, f"the folder {folder.resolve()} was read, not the data set of that name")


def _own_classes(listing: Listing, classes: Classes) -> Listing:
    return listing if classes == "shared" else of_their_classes(_with_training(listing))


def _with_training(listing: Listing) -> Listing:
    """Return it again; UserError where a listing has parts, but none to train on."""
    if "train" not in listing.parts:
        raise UserError(f"{listing.name} has {' and '.join(listing.parts)} images alone: say which are for training")
    return listing


def _noting(listing: Listing, note: str) -> Listing:
    return replace(listing, notes=(*listing.notes, note))


def _require_unused(what: str, **settings: object) -> None:
    """Raise UserError where a setting was given that means nothing for these data."""
    for name, value in settings.items():
        if value is not None:
            raise UserError(f"{name} is '{value}', but {what} has no use for it: leave it out")


def _require_classes(images: Split, where: Path | str) -> None:
    """Raise UserError where there is one class only, or one without a training image: nothing could be learnt."""
    if len(images.class_names) < 2:
        raise UserError(f"{where} has one class only, '{images.class_names[0]}'; a classifier needs two or more")
    if empty := without_images(images):
        raise UserError(f"{where} has no training image of {listed(empty)}: number the classes without gaps")
