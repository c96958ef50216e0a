"""Data sets whose parts have different classes, as few-shot learning needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classmates._names import name_of_class
from classmates.data.parts import Files, ImageFile, Split
from classmates.data.readers.class_tables import ClassFiles, find_tables, read_tables
from classmates.data.readers.folder import find_parts, no_training_images
from classmates.data.readers.listing import Listing
from classmates.data.readers.part_names import PARTS
from classmates.data.readers.paths import Paths
from classmates.data.readers.published_files import list_files
from classmates.data.readers.walking import Walk, told_of_unreadable
from classmates.errors import UserError, nearest

PICKLES = (".pkl", ".pickle")


class Joined:
    """Files of several kinds one after the other."""

    def __init__(self, files: Sequence[Files], indices: np.ndarray | None = None) -> None:
        """Take those of these indices, [N]; all if None."""
        self.files = files
        self.starts = np.cumsum([0, *map(len, files)])
        self.indices = np.arange(self.starts[-1]) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> ImageFile:
        place = int(self.indices[index])
        which = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.files[which][place - int(self.starts[which])]

    def identity(self) -> Iterator[bytes]:
        """Yield that of each kind, and which of them in what order; see ``Files``."""
        for files in self.files:
            yield from files.identity()
        yield self.indices.tobytes()

    def take(self, indices: Tensor, /) -> Joined:
        return Joined(self.files, self.indices[indices.numpy()])


def list_class_parts(root: Path, *, name: str = "", trees: Sequence[Path] = ()) -> Listing:
    """Find the parts of a folder, each with classes of its own; where it has no parts, its classes alone.

    Either tables, ``train.csv`` or ``train.json`` and, where there are, ``val`` and ``test`` likewise (see
    ``read_tables``); or ``train/CLASS/*`` and, where there are, ``val/`` and ``test/``; or class folders right in it.

    Args:
        root: the folder.
        name: of the data set; the folder's if not given.
        trees: more folders in which images that tables name are looked for.

    Raises:
        UserError: the folder is missing, has no classes, holds pickles instead, or cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give a folder of class folders, or of train/CLASS/*")
    name = name or root.resolve().name
    with told_of_unreadable():
        if "train" in (tables := find_tables(root)):
            return listing_of(name, root, read_tables(root, tables, trees))
        _refuse_pickles(root)
        layout = find_parts(root)
        if "train" not in layout.parts:
            raise no_training_images(root, layout)
        walk = Walk(layout.place)
        parts = {
            part: {
                kind: walk.images(str(Path(folder, kind))) for kind in sorted(walk.classes(folder), key=name_of_class)
            }
            for part, folder in layout.parts.items()
        }
    return listing_of(name, layout.place, parts, notes=[*layout.notes, *walk.notes()])


def _refuse_pickles(root: Path) -> None:
    """Raise UserError where a folder has pickles and no folders: opening one runs whatever code it carries."""
    found = sorted(file for file in root.iterdir() if file.suffix in PICKLES)
    if found and not any(entry.is_dir() for entry in root.iterdir()):
        raise UserError(
            f"{found[0]} is a pickle, which runs whatever code it carries when it is opened, so it is not: convert "
            "it once to folders of images with a reader that takes arrays only (docs/data.md, 'Pickles', has one)"
        )


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
    names = {part: tuple(map(name_of_class, classes)) for part, classes in parts.items()}
    own = {part: replace(split, class_names=names[part]) for part, split in listing.parts.items()}
    return replace(listing, parts=own)


def of_their_classes(listing: Listing) -> Listing:
    """Return the data set with each part's own classes alone: tables list the classes of all parts for each."""
    parts = {part: _of_its_classes(split, listing.class_names) for part, split in listing.parts.items()}
    return replace(listing, parts=parts, class_names=parts["train"].class_names)


def _of_its_classes(split: Split, class_names: Sequence[str]) -> Split:
    numbers, labels = split.labels.unique(return_inverse=True)
    names = split.class_names or class_names
    return replace(split, labels=labels, class_names=tuple(names[number] for number in numbers.tolist()))


def together(listing: Listing) -> Listing:
    """Return the data set with the images of all its parts, which have the same classes, in one."""
    files: Files
    if isinstance(listing.stored_in, Paths):  # those of all parts in turn
        splits, files = [*listing.parts.values()], listing.stored_in
    else:
        splits = [listing.parts[part] for part in PARTS if part in listing.parts]
        files = Joined([split.paths for split in splits if split.paths is not None])
    one = Split(torch.cat([split.labels for split in splits]), paths=files)
    notes = listing.notes
    if len(splits) > 1:
        notes += (f"the published images of {' and '.join(listing.parts)} have the same classes: put together",)
    return replace(listing, parts={"train": one}, notes=notes)


def divided(listing: Listing, name: str, classes: Mapping[str, Sequence[str]]) -> Listing:
    """Return the data set cut into parts by its classes; those that are in no list are for training.

    Args:
        listing: a data set of which every part has the same classes.
        name: of the new one.
        classes: the names of the classes of "val" and "test".

    Raises:
        UserError: the data set has no such class.
    """
    one = together(listing).parts["train"]
    for names in classes.values():
        if missing := [kind for kind in names if kind not in listing.class_names]:
            raise UserError(
                f"{name}: {listing.where} has no class '{missing[0]}': {nearest(missing[0], listing.class_names)}"
            )
    part_of = {kind: part for part, names in classes.items() for kind in names}
    parts = {}
    for part in ("train", *classes):
        chosen = [number for number, kind in enumerate(listing.class_names) if part_of.get(kind, "train") == part]
        split = one.take(torch.isin(one.labels, torch.tensor(chosen)).nonzero()[:, 0])
        parts[part] = _of_its_classes(split, listing.class_names)
    return replace(listing, name=name, parts=parts, class_names=parts["train"].class_names)
