"""Folders of images whose parts have different classes, as few-shot learning needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from classmates.data.parts import Split
from classmates.data.readers.folder import parts_of
from classmates.data.readers.listing import Listing
from classmates.data.readers.published_files import list_files
from classmates.data.readers.walking import Walk
from classmates.errors import UserError

ClassFiles = Mapping[str, Sequence[str]]
"""The files of each class, by its name, relative to the folder of the data set."""


def list_class_parts(root: Path) -> Listing:
    """Find ``root/train/CLASS/*`` and, where there are, ``val/`` and ``test/`` with other classes; or classes alone.

    Raises:
        UserError: the folder is missing, has no classes or cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give a folder of class folders, or of train/CLASS/*")
    walk = Walk(root)
    try:
        folders, notes = parts_of(root)
        parts = {
            part: {name: walk.images(str(Path(folder, name))) for name in walk.classes(folder)}
            for part, folder in folders.items()
        }
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    return listing_of(root.resolve().name, root, parts, notes=[*notes, *walk.notes()])


def listing_of(name: str, place: Path, parts: Mapping[str, ClassFiles], *, notes: Sequence[str] = ()) -> Listing:
    """Return the data set of parts with classes of their own.

    Raises:
        UserError: a part has no classes.
    """
    for part, classes in parts.items():
        if not classes:
            raise UserError(f"{place} ({part}) has no classes: put the images of each class into a folder of its own")
    files = {part: classes.values() for part, classes in parts.items()}
    listing = list_files(name, place, tuple(parts["train"]), files, notes=notes)
    own = {part: replace(split, class_names=tuple(parts[part])) for part, split in listing.parts.items()}
    return replace(listing, parts=own)


def of_their_classes(listing: Listing) -> Listing:
    """Return the data set with each part's own classes alone: tables list the classes of all parts for each."""
    parts = {part: _of_its_classes(split, listing.class_names) for part, split in listing.parts.items()}
    return replace(listing, parts=parts, class_names=parts["train"].class_names)


def _of_its_classes(split: Split, class_names: Sequence[str]) -> Split:
    numbers, labels = split.labels.unique(return_inverse=True)
    names = split.class_names or class_names
    return replace(split, labels=labels, class_names=tuple(names[number] for number in numbers.tolist()))
