"""A folder of class folders as a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from classmates.data.parts import Split
from classmates.data.readers.images import EXTENSIONS
from classmates.data.readers.listing import Listing, listed
from classmates.data.readers.paths import Paths
from classmates.data.readers.walking import Walk, is_image
from classmates.errors import UserError, nearest

PARTS = ("train", "val", "test")


def list_folder(root: Path) -> Listing:
    """Find ``root/train/CLASS/*`` and, where there are, ``val/`` and ``test/``; or class folders right in ``root``.

    No image is opened. Links are followed; hidden files and folders, and files that are no images by their names, are
    left out. Both are noted.

    Raises:
        UserError: the folder or a class is missing or empty, a folder cannot be read, the classes of the parts
            differ, or a link leads to nothing or in a circle.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give a folder of class folders, or of train/CLASS/*")
    try:
        return _find(root)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _find(root: Path) -> Listing:
    walk = Walk(root)
    parts, notes = parts_of(root)
    classes = {part: walk.classes(folder) for part, folder in parts.items()}
    _require_classes(root, classes)
    counts: list[int] = []

    def contents() -> Iterator[list[str]]:
        for part, folder in parts.items():
            for name in classes[part]:
                images = walk.images(os.path.join(folder, name))
                counts.append(len(images))
                yield images

    paths = Paths(root, contents())
    labels = torch.arange(len(classes["train"])).repeat(len(parts)).repeat_interleave(torch.tensor(counts))
    by_part = dict(zip(parts, torch.tensor(counts).view(len(parts), -1), strict=True))
    _require_images(root, classes["train"], by_part)
    places = torch.arange(len(paths)).split([int(count.sum()) for count in by_part.values()])
    return Listing(
        name=root.resolve().name,
        where=root,
        class_names=tuple(classes["train"]),
        parts={part: Split(labels[at], paths=paths.take(at)) for part, at in zip(parts, places, strict=True)},
        notes=(*notes, *walk.notes()),
        stored_in=paths,
    )


def parts_of(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return the folder of each part, relative to the root, and notes on what lies beside the class folders."""
    below = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    notes = []
    if "train" in below:
        parts = {part: part for part in PARTS if part in below}
        if others := [f"{name}/" for name in below if name not in PARTS]:
            notes.append(f"beside train/, not used: {', '.join(others)}")
    elif found := [f"{part}/" for part in PARTS if part in below]:
        raise UserError(f"{root} has {' and '.join(found)} but no train/ folder: put the training images into train/")
    else:
        parts = {"train": ""}
    for folder in parts.values():
        entries = os.scandir(root / folder)
        if loose := sum(is_image(entry.name) for entry in entries if entry.is_file()):
            notes.append(f"{loose} images in {root / folder} are in no class folder, not used")
    return parts, notes


def _require_classes(root: Path, parts: dict[str, list[str]]) -> None:
    classes = parts["train"]
    if not classes:
        raise UserError(f"{root} has no class folders: put the images of each class into a folder of its own")
    if len(classes) == 1:
        raise UserError(f"{root} has one class only, '{classes[0]}'; a classifier needs two or more")
    for part, names in parts.items():
        here, known = set(names), set(classes)
        if strange := sorted(here - known):
            raise UserError(
                f"{root / part} has a class '{strange[0]}' that train/ has not: {nearest(strange[0], classes)}"
            )
        if missing := sorted(known - here):
            raise UserError(f"{root / part} has no folder for {listed(missing)}, which train/ has")


def _require_images(root: Path, classes: list[str], counts: dict[str, Tensor]) -> None:
    """Raise UserError where a class has no readable image in one of the parts. counts: [K], of each part."""
    for part, count in counts.items():
        if empty := [classes[number] for number in (count == 0).nonzero()[:, 0].tolist()]:
            raise UserError(
                f"no readable image in {root} ({part}) for {listed(empty)}: "
                f"add images ({', '.join(EXTENSIONS)}) or remove the folder"
            )
