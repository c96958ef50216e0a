"""Data sets as their publishers pack them: where their folder is, and their image files by part and class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from classmates.data.parts import Split
from classmates.data.readers.listing import Listing
from classmates.data.readers.paths import Paths
from classmates.errors import UserError, nearest


def place_of(name: str, data_dir: Path, folders: Sequence[str], needed: Sequence[str], source: str) -> Path:
    """Return the folder of a data set: the first of ``folders`` in ``data_dir``, or itself, that has what is needed.

    Args:
        name: of the data set.
        data_dir: the folder that the user gave, or the default one.
        folders: what the data set's own folder may be called.
        needed: the files and folders that it must have.
        source: what to unpack, and where it is published.

    Raises:
        UserError: there is no such folder; the message says what is missing.
    """
    places = [*(data_dir / folder for folder in folders), data_dir]
    missing = [[name for name in needed if not (place / name).exists()] for place in places]
    fewest = min(missing, key=len)
    place = places[missing.index(fewest)]
    if fewest:
        raise UserError(
            f"{name}: {place} has no {', no '.join(fewest)}. Unpack {source} there, "
            "or say with --data_dir where it is"
        )
    return place


def list_files(
    name: str,
    place: Path,
    class_names: Sequence[str],
    parts: Mapping[str, Iterable[Sequence[str]]],
    *,
    notes: Sequence[str] = (),
) -> Listing:
    """List image files as a data set.

    parts: for each part the files of every class in turn, relative to ``place``. The rest is as in Listing.
    """
    counts: dict[str, list[int]] = {part: [] for part in parts}

    def contents() -> Iterator[Sequence[str]]:
        for part, classes in parts.items():
            for files in classes:
                counts[part].append(len(files))
                yield files

    paths = Paths(place, contents())
    places = torch.arange(len(paths)).split([sum(count) for count in counts.values()])
    return Listing(
        name=name,
        where=place,
        class_names=tuple(class_names),
        parts={
            part: Split(torch.arange(len(count)).repeat_interleave(torch.tensor(count)), paths=paths.take(at))
            for (part, count), at in zip(counts.items(), places, strict=True)
        },
        notes=tuple(notes),
        stored_in=paths,
    )


def by_class(class_of: Mapping[str, str], classes: Sequence[str], where: Path) -> list[list[str]]:
    """Return the files of each class, in the order of the classes.

    class_of: the class of each file. where: the file that says so, for messages.

    Raises:
        UserError: a file is of another class.
    """
    files: dict[str, list[str]] = {name: [] for name in classes}
    for file, name in class_of.items():
        if name not in files:
            raise UserError(f"{where} gives {file} the class {name}, which is not known: {nearest(name, classes)}")
        files[name].append(file)
    return list(files.values())
