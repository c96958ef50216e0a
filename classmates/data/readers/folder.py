"""A folder of class folders as a data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from classmates._names import name_of_class
from classmates.data.parts import Split
from classmates.data.readers.label_table import is_table
from classmates.data.readers.listing import Listing, all_scored, listed
from classmates.data.readers.opening import EXTENSIONS
from classmates.data.readers.part_names import part_of, part_within, parts_among
from classmates.data.readers.paths import Paths
from classmates.data.readers.walking import Walk, is_hidden, is_image, link_to_nothing, told_of_unreadable
from classmates.errors import UserError, nearest


class Layout(NamedTuple):
    """The parts of a folder. place: the folder that holds them. parts: the folder of each, relative to it, "" where
    the class folders lie right in it. notes: what was decided."""

    place: Path
    parts: dict[str, str]
    notes: list[str]


def list_folder(root: Path) -> Listing:
    """Find ``root/train/CLASS/*`` and, where there are, ``val/`` and ``test/``; or class folders right in ``root``.

    The parts may be spelled otherwise, and lie in the one folder that is in ``root``: see ``find_parts``. No image is
    opened. Links are followed; hidden files and folders, and files that are no images by their names, are left out.
    All this is noted.

    Raises:
        UserError: the folder or a training class is missing or empty, a folder cannot be read, a part has a class
            that training has not, or a link leads to nothing or in a circle.
    """
    layout = _layout(root)
    if "train" not in layout.parts:
        raise no_training_images(root, layout)
    return _listing(root, layout, layout.parts)


def list_part(root: Path, part: str) -> Listing:
    """Find the images of one part of such a folder, or all of one that has no parts, to be tested on.

    The classes are those that the part has.

    Raises:
        UserError: there is no such part, or as in ``list_folder``.
    """
    layout = _layout(root)
    if layout.parts == {"train": ""}:
        layout.notes.append(all_scored(root))
        return _listing(root, layout, {"test": ""})
    if part not in layout.parts:
        there = " or ".join(f"--split {name}" for name in layout.parts)
        raise UserError(f"{root} has no {part}/ folder: take another part ({there}), or put the images into {part}/")
    return _listing(root, layout, {"test": layout.parts[part]})


def no_training_images(root: Path, layout: Layout) -> UserError:
    """Return the error for a folder of other parts alone."""
    found = " and ".join(f"{name}/" for name in layout.parts.values())
    return UserError(f"{root} has {found} but no train/ folder: put the training images into train/")


def _layout(root: Path) -> Layout:
    if not root.is_dir():
        there = os.path.lexists(root)
        meant = None if there else _named_like(root)
        fix = f"did you mean {meant}?" if meant else "give a folder of class folders, or of train/CLASS/*"
        raise UserError(f"{root} {'is not a folder' if there else 'does not exist'}: {fix}")
    with told_of_unreadable():
        return find_parts(root)


@told_of_unreadable()
def _named_like(root: Path) -> str | None:
    """Return the folder or table beside a place, where nothing is, whose name is most like its; None without one."""
    names = {name.casefold(): name for name in os.listdir(root.parent)} if root.parent.is_dir() else {}
    close = [os.path.join(root.parent, names[name]) for name in get_close_matches(root.name.casefold(), names)]
    return next((path for path in close if os.path.isdir(path) or is_table(path)), None)


def find_parts(root: Path) -> Layout:
    """Find the folders that hold the parts of a data set, by their names in any case: ``Training/``, ``valid/``.

    Where folders of such names lie beside others and hold no folders themselves, all are classes. Where there is one
    folder only, and in it several, it is looked into.

    Raises:
        UserError: a part is a link to nothing, or what would be classes looks like parts.
    """
    notes = []
    folders = _folders(root)
    if len(folders) == 1 and not part_of(folders[0]):
        inner = _folders(root / folders[0])
        if len(inner) > 1 or any(map(part_of, inner)):
            notes.append(f"the data set is {folders[0]}/, the only folder in {root}")
            root, folders = root / folders[0], inner
    parts, others = parts_among(folders, root)
    if parts and others and not any(_folders(root / name) for name in parts.values()):
        if all(map(part_within, others)):  # train/cat.0.jpg beside test1/1.jpg
            raise UserError(
                f"{_named([*parts.values(), *others])} in {root} hold no class folders: put the images of each class "
                f"into a folder of its own ({parts[next(iter(parts))]}/CLASS/...){_table_in(root)}"
            )
        notes.append(f"taken for classes, as they hold no class folders: {_named(parts.values())}")
        parts = {}
    elif parts and others:
        notes.append(f"beside {_named(parts.values())}, not used: {_named(others)}")
    if spelled := [f"{name}/ is {part}/" for part, name in parts.items() if name != part]:
        notes.append(f"the parts are known by their names: {', '.join(spelled)}")
    if folders and not parts:
        _require_parts_outside(root, folders)
    places = {part: _within(root, name) for part, name in parts.items()} or {"train": ""}
    for folder in places.values():
        entries = os.scandir(root / folder)
        if loose := sum(is_image(entry.name) for entry in entries if entry.is_file()):
            notes.append(f"images in {root / folder} that are in no class folder, not used: {loose}")
    return Layout(root, places, notes)


def _within(root: Path, name: str) -> str:
    """Return a part's folder, or the one of the same meaning that is all it holds (``test_set/test_set/``)."""
    inner = _folders(root / name)
    return f"{name}/{inner[0]}" if len(inner) == 1 and part_of(inner[0]) == part_of(name) else name


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders right in a folder, sorted; UserError for a part that is a link to nothing."""
    names = []
    for entry in os.scandir(folder):
        if entry.is_dir():
            names.append(entry.name)
        elif entry.is_symlink() and not os.path.exists(entry.path) and part_of(entry.name):
            raise link_to_nothing(entry.path)
    return sorted(name for name in names if not is_hidden(name))


def _require_parts_outside(root: Path, classes: Sequence[str]) -> None:
    """Raise UserError where what would be classes looks like parts, or holds them: images of all would be mixed."""
    inner = [_folders(root / name) for name in classes[:2]]
    if all(inner) and all(part_of(name) for names in inner for name in names):
        raise UserError(
            f"the folders in {root} hold {_named(inner[0])}, as if each class were divided by itself: put the "
            f"classes into the parts ({inner[0][0]}/{classes[0]}/...)"
        )
    if len(inner) == 2 and inner[0] == inner[1] != [] and all(map(part_within, classes)):
        raise UserError(
            f"{_named(classes)} in {root} hold folders of the same names: if they are the parts of a data set, call "
            "them train/, val/ and test/; if they are classes, name them otherwise"
        )


def _listing(root: Path, layout: Layout, parts: dict[str, str]) -> Listing:
    """List the images of these parts of a folder, by whose name the data set goes."""
    with told_of_unreadable():
        walk = Walk(layout.place)
        folders = {part: sorted(walk.classes(folder), key=name_of_class) for part, folder in parts.items()}
        classes = {part: [*map(name_of_class, names)] for part, names in folders.items()}
        known = classes.get("train") or sorted(set().union(*classes.values()))
        _require_classes(layout.place, parts, classes, known)
        counts: dict[str, list[int]] = {part: [] for part in parts}

        def contents() -> Iterator[list[str]]:
            for part, folder in parts.items():
                for name in folders[part]:
                    images = walk.images(os.path.join(folder, name))
                    counts[part].append(len(images))
                    yield images

        paths = Paths(layout.place, contents())
    _require_images(layout.place, classes, counts, walk.notes())
    places = torch.arange(len(paths)).split([sum(count) for count in counts.values()])
    numbers = {name: number for number, name in enumerate(known)}
    splits = {}
    for (part, names), at in zip(classes.items(), places, strict=True):
        of_classes = torch.tensor([numbers[name] for name in names])
        labels = of_classes.repeat_interleave(torch.tensor(counts[part]))
        splits[part] = Split(labels, paths=paths.take(at))
    return Listing(
        name=root.resolve().name,
        where=layout.place,
        class_names=tuple(known),
        parts=splits,
        notes=(*layout.notes, *walk.notes()),
        stored_in=paths,
    )


def _require_classes(root: Path, parts: dict[str, str], classes: dict[str, list[str]], known: list[str]) -> None:
    """Raise UserError where a part has no class, or one that training has not, or there is one only to learn."""
    for part, folder in parts.items():
        if not classes[part]:
            away = f", or move {folder}/ away" if "train" in classes and part != "train" else ""
            raise UserError(
                f"{root / folder} has no class folders: put the images of each class into a folder of its "
                f"own{away}{_table_in(root)}"
            )
    for part, names in classes.items():
        if alike := [one for one, other in pairwise(names) if one == other]:
            raise UserError(
                f"{root / parts[part]} has two class folders that are both written '{alike[0]}', though their names "
                "differ in their bytes: put their images into one"
            )
    if "train" in parts and len(known) == 1:
        raise UserError(f"{root} has one class only, '{known[0]}'; a classifier needs two or more{_table_in(root)}")
    for part, names in classes.items():
        if strange := [name for name in names if name not in set(known)]:
            raise UserError(
                f"{root / parts[part]} has a class '{strange[0]}' that train/ has not: {nearest(strange[0], known)}"
            )


def _require_images(
    root: Path, classes: dict[str, list[str]], counts: dict[str, list[int]], notes: Sequence[str]
) -> None:
    """Raise UserError, with the notes on what was left out, where a training class or a whole part has no image."""
    for part, count in counts.items():
        empty = [name for name, images in zip(classes[part], count, strict=True) if not images]
        if empty and (part == "train" or not sum(count)):
            raise UserError(
                f"no readable image in {root} ({part}) for {listed(empty)}: "
                + "\n".join([f"add images ({', '.join(EXTENSIONS)}) or remove the folder", *notes])
            )


def _table_in(root: Path) -> str:
    """Return what to do where a table lies in a folder that has no classes."""
    tables = sorted(path for path in root.iterdir() if is_table(path))
    return f"; if {tables[0].name} says which image is of which class, give that: {tables[0]}" if tables else ""


def _named(folders: Iterable[str]) -> str:
    return ", ".join(f"{name}/" for name in folders)
