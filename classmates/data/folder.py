"""A folder of class folders as a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from classmates.data.images import Check, UnreadableImage, check_all, read_all
from classmates.data.parts import Source, Split, moments_of
from classmates.errors import UserError, nearest

IN_MEMORY = 64
"""Images with no side above this many pixels are kept in memory."""
STREAMED = 224
"""The size, in pixels, at which larger images are used unless the user says otherwise."""

PARTS = ("train", "val", "test")

Files = dict[str, list[Path]]
"""The images of one part by class name, the classes in alphabetical order."""


def read_folder(
    root: Path, *, image_size: int | None, channels: int | None, on_bad_image: Literal["error", "skip"]
) -> Source:
    """Read ``root/train/CLASS/*`` and, where there are, ``val/`` and ``test/``; or class folders right in ``root``.

    Every image is read once to see that it is whole. Images of one size, at most 64 pixels a side, and any image if
    the image size asked for is at most 64, are kept in memory; others are read when needed.

    Raises:
        UserError: the folder or a class is missing or empty, there is one class, the classes of the parts differ, or
            an image cannot be read and ``on_bad_image`` is "error".
    """
    parts, notes = _find(root)
    paths = [path for files in parts.values() for images in files.values() for path in images]
    checks = dict(zip(paths, check_all(paths, channels or 3), strict=True))
    bad = [check for check in checks.values() if isinstance(check, UnreadableImage)]
    good = {path: check for path, check in checks.items() if isinstance(check, Check)}
    if bad and on_bad_image == "error":
        shown = "\n".join(f"  {error}" for error in bad[:5])
        raise UserError(
            f"{len(bad)} of {len(paths)} images in {root} cannot be read, among them:\n{shown}\n"
            "mend or remove them, or leave them out with --on_bad_image skip"
        )
    if bad:
        notes.append(f"{len(bad)} unreadable images skipped: " + "; ".join(map(str, bad)))
        for part, files in parts.items():
            parts[part] = {name: [path for path in images if path in good] for name, images in files.items()}
        _require_images(root, parts)

    if channels is None:
        channels = 1 if all(check.grey for check in good.values()) else 3
    size, in_memory = _choose_size({check.size for check in good.values()}, image_size, notes)
    splits = {}
    for part, files in parts.items():
        kept = tuple(path for images in files.values() for path in images)
        labels = torch.arange(len(files)).repeat_interleave(torch.tensor([len(images) for images in files.values()]))
        images = read_all(kept, channels, size) if in_memory else None
        splits[part] = Split(labels, images, None if in_memory else kept)
    train = splits["train"]
    if train.images is not None:
        moments = moments_of(train.images)
    else:
        moments = torch.from_numpy(np.stack([good[path].moments for path in train.paths or ()]))[:, :, :channels]
    return Source(
        name=root.resolve().name,
        class_names=tuple(parts["train"]),
        image_size=size,
        moments=moments,
        train=train,
        val=splits.get("val"),
        test=splits.get("test"),
        notes=tuple(notes),
    )


def _find(root: Path) -> tuple[dict[str, Files], list[str]]:
    """The image files by part and class, and notes on what lies beside them."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give a folder of class folders, or of train/CLASS/*")
    below = _folders(root)
    notes = []
    if "train" in below:
        folders = {part: root / part for part in PARTS if part in below}
        if others := [f"{name}/" for name in below if name not in PARTS]:
            notes.append(f"beside train/, not used: {', '.join(others)}")
    elif found := [f"{part}/" for part in PARTS if part in below]:
        raise UserError(f"{root} has {' and '.join(found)} but no train/ folder: put the training images into train/")
    else:
        folders = {"train": root}

    parts = {}
    for part, folder in folders.items():
        parts[part] = {name: _images(folder / name) for name in _folders(folder)}
        if loose := sum(_is_image(entry.name) for entry in os.scandir(folder) if entry.is_file()):
            notes.append(f"{loose} images in {folder} are in no class folder, not used")
    _require_classes(root, parts)
    _require_images(root, parts)
    return parts, notes


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """All images below a class folder, sorted; what is no image by its name, or hidden, is left out."""
    found = []
    for place, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(place, name) for name in names if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(IMG_EXTENSIONS)


def _require_classes(root: Path, parts: dict[str, Files]) -> None:
    classes = list(parts["train"])
    if not classes:
        raise UserError(f"{root} has no class folders: put the images of each class into a folder of its own")
    if len(classes) == 1:
        raise UserError(f"{root} has one class only, '{classes[0]}'; a classifier needs two or more")
    for part, files in parts.items():
        for name in files:
            if name not in classes:
                raise UserError(f"{root / part} has a class '{name}' that train/ has not: {nearest(name, classes)}")
        if missing := [name for name in classes if name not in files]:
            raise UserError(f"{root / part} has no folder for {_listed(missing)}, which train/ has")


def _require_images(root: Path, parts: dict[str, Files]) -> None:
    for part, files in parts.items():
        if empty := [name for name, images in files.items() if not images]:
            raise UserError(
                f"no readable image in {root} ({part}) for {_listed(empty)}: "
                f"add images ({', '.join(IMG_EXTENSIONS)}) or remove the folder"
            )


def _listed(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - 5} more classes" if len(classes) > 5 else ""
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(f"'{name}'" for name in classes[:5]) + more


def _choose_size(
    sizes: set[tuple[int, int]], image_size: int | None, notes: list[str]
) -> tuple[tuple[int, int], bool]:
    """The (height, width) to train at, and whether the images are kept in memory."""
    if image_size is not None:
        return (image_size, image_size), image_size <= IN_MEMORY
    if len(sizes) == 1:
        [(width, height)] = sizes
        if max(width, height) <= IN_MEMORY:
            return (height, width), True
        if width == height <= STREAMED:
            return (height, width), False
    described = "one size" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    notes.append(f"the images have {described}: used at {STREAMED}x{STREAMED} pixels (image_size changes that)")
    return (STREAMED, STREAMED), False
