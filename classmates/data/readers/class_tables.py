"""Tables that say which image is of which class, one for each part: the CSV and JSON files of few-shot releases.

A file's name in a table is often a path on its author's machine; it is looked for by its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from classmates._names import name_of_class
from classmates.data.readers.walking import Walk
from classmates.errors import UserError

ClassFiles = Mapping[str, Sequence[str]]
"""The files of each class, by its name, relative to the folder of the data set, or absolute."""

NAMES = {"train": ("train", "base"), "val": ("val", "validation"), "test": ("test", "novel")}
"""What the table of each part may be called, before .csv or .json."""

IMAGES = ("", "images", "train")
"""The folders beside the tables in which images are looked for, in this order."""


def find_tables(root: Path) -> dict[str, Path]:
    """Return the table of each part that there is in a folder.

    Raises:
        UserError: two tables for one part.
    """
    found: dict[str, Path] = {}
    for part, names in NAMES.items():
        files = [root / f"{name}{end}" for name in names for end in (".csv", ".json")]
        here = [file for file in files if file.is_file()]
        if len(here) > 1:
            raise UserError(f"{root} has several tables for {part}: {here[0].name} and {here[1].name}; remove one")
        if here:
            found[part] = here[0]
    return found


def read_tables(root: Path, tables: Mapping[str, Path], trees: Sequence[Path] = ()) -> dict[str, ClassFiles]:
    """Return the files of each class of each part.

    A CSV file has the columns ``filename`` and ``label``, or ``class_name`` and ``image_name`` (the file is then in
    the folder of its class). A JSON file has ``label_names``, ``image_names`` and ``image_labels``, or else
    ``class_names`` and ``class_roots``, the folders of which all images are taken.

    Args:
        root: the folder of the data set.
        tables: by part.
        trees: more folders in which images are looked for, such as ImageNet's.

    Raises:
        UserError: a table that cannot be read, lists no images, or whose files are nowhere; a file without a class,
            or a file or a class twice in one.
    """
    places = [*(root / folder for folder in IMAGES), *trees]
    return {part: _read(table, places) for part, table in tables.items()}


def _read(table: Path, places: Sequence[Path]) -> ClassFiles:
    try:
        if table.suffix == ".csv":
            return _of_rows(table, places, *_csv_rows(table))
        content = json.loads(table.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"class_names", "class_roots"} <= content.keys():
            return _of_folders(table, places, content)
        return _of_rows(table, places, *_json_rows(table, content))
    except UserError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{table} cannot be read as a table of images and classes: {error}") from error


def _csv_rows(table: Path) -> tuple[list[str], list[str]]:
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    if {"filename", "label"} <= set(rows.columns):
        return rows["filename"].tolist(), rows["label"].tolist()
    if {"class_name", "image_name"} <= set(rows.columns):
        return (rows["class_name"] + "/" + rows["image_name"]).tolist(), rows["class_name"].tolist()
    raise UserError(
        f"{table} has the columns {', '.join(rows.columns)}: it needs filename and label, "
        "or class_name and image_name"
    )


def _json_rows(table: Path, content: Any) -> tuple[list[str], list[str]]:
    needed = ("label_names", "image_names", "image_labels")
    if not isinstance(content, dict) or not content.keys() >= set(needed):
        raise UserError(f"{table} must have {', '.join(needed)}, or class_names and class_roots")
    names, files, labels = (content[key] for key in needed)
    if len(files) != len(labels):
        raise UserError(f"{table} has {len(files)} image_names, but {len(labels)} image_labels")
    files = list(map(str, files))
    name_of = dict(enumerate(map(str, names)))
    if strange := [(file, label) for file, label in zip(files, labels, strict=True) if label not in name_of]:
        file, label = strange[0]
        raise UserError(
            f"{table} gives {file} the label {label!r}, which none of its {len(names)} label_names has, counted from "
            "0: correct it, or remove the image"
        )
    return files, [name_of[label] for label in labels]


def _of_rows(table: Path, places: Sequence[Path], files: Sequence[str], classes: Sequence[str]) -> ClassFiles:
    """Return the files by class, both in the order in which they are sorted."""
    _require_classes(table, files, classes)
    classes = [*map(name_of_class, classes)]
    class_of: dict[str, str] = {}
    for file, name in zip(_found(table, files, places), classes, strict=True):
        if file in class_of:
            raise UserError(f"{table} has the file {file} twice, as '{class_of[file]}' and as '{name}'")
        class_of[file] = name
    by_class: dict[str, list[str]] = {name: [] for name in sorted(set(classes))}
    for file in sorted(class_of):
        by_class[class_of[file]].append(file)
    return by_class


def _of_folders(table: Path, places: Sequence[Path], content: Mapping[str, Sequence[str]]) -> ClassFiles:
    names, folders = [name_of_class(str(name)) for name in content["class_names"]], content["class_roots"]
    if len(names) != len(folders):
        raise UserError(f"{table} has {len(names)} class_names, but {len(folders)} class_roots")
    _require_classes(table, folders, names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{table} has the class '{twice[0]}' twice")
    walk = Walk(places[0])
    found = dict(zip(names, _found(table, folders, places), strict=True))
    if twice := [folder for folder in found.values() if [*found.values()].count(folder) > 1]:
        raise UserError(f"{table} has the folder {twice[0]} twice among its class_roots")
    if missing := [(name, folder) for name, folder in found.items() if not (places[0] / folder).is_dir()]:
        name, folder = missing[0]
        raise UserError(
            f"{table} has the class '{name}' in {places[0] / folder}, which is no folder ({len(missing)} of "
            f"{len(found)} are none): put its images there, or take the class out of the table"
        )
    return {name: walk.images(found[name]) for name in sorted(found)}


def _require_classes(table: Path, entries: Sequence[str], classes: Sequence[str]) -> None:
    """Raise UserError where a table has no images or folders, or no class for one."""
    if not entries:
        raise UserError(f"{table} lists no images: give each with its class")
    if missing := [entry for entry, name in zip(entries, classes, strict=True) if not name.strip()]:
        raise UserError(
            f"{len(missing)} of {len(entries)} entries of {table} have no class, such as {missing[0]}: give them one "
            "or remove them"
        )


def _found(table: Path, names: Sequence[str], places: Sequence[Path]) -> Iterable[str]:
    """Return the files as they are here: all lie where the first one is found, the longest end of its name first."""
    steps = PurePosixPath(names[0]).parts
    for dropped in range(len(steps)):
        for place in places:
            if place.joinpath(*steps[dropped:]).exists():
                inside = place.relative_to(places[0]) if place.is_relative_to(places[0]) else place
                return [str(inside.joinpath(*PurePosixPath(name).parts[dropped:])) for name in names]
    looked = ", ".join(map(str, places))
    raise UserError(f"{names[0]}, which {table} names, is in none of {looked}: put the images there")
