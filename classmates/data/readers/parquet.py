"""A folder of parquet shards as the Hugging Face Hub lays them out."""

from __future__ import annotations

import glob
import re
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from classmates._files import require_regular
from classmates._progress import bars_of
from classmates.data.readers.cache import cache_folder
from classmates.data.readers.hub import list_splits, require_datasets
from classmates.data.readers.listing import Listing
from classmates.data.readers.part_names import WORDS
from classmates.errors import UserError

Shards = dict[str, list[Path]]
"""The files of each split, by its published name."""


def find_shards(folder: Path) -> Shards:
    """Return the parquet files by split; empty where the folder has none.

    They lie in the folder itself, in its ``data/``, or in the one folder of a configuration; either named after their
    split (``train-00000-of-00002.parquet``) or in a folder that is (``train/0000.parquet``). Files with nothing but a
    number for a name, and in no such folder, are training images.

    Raises:
        UserError: several folders have shards, or one of a numbered row of shards is missing.
    """
    if not folder.is_dir():
        return {}
    places = [folder, *sorted(below for below in folder.iterdir() if below.is_dir() and below.name not in WORDS)]
    found = {place: shards for place in places if (shards := shards_in(place))}
    if len(found) > 1:
        raise UserError(f"several folders in {folder} hold parquet files: give one of {', '.join(map(str, found))}")
    return next(iter(found.values()), {})


def shards_in(place: Path) -> Shards:
    """Return the parquet files by split that lie right in a folder, or in folders named after their split in it."""
    shards: Shards = {}
    for file in sorted(place.glob("*.parquet")):
        named = re.match(r"[A-Za-z_]+", file.stem)
        shards.setdefault(named[0] if named else "train", []).append(file)
    for split in WORDS:
        if files := sorted((place / split).glob("*.parquet")):
            shards.setdefault(split, []).extend(files)
    for files in shards.values():
        _require_all(files)
    return shards


def parquet_in(folder: Path, name: str, label: str | None) -> Listing | None:
    """Return a data set from the shards in the folder of its name in a folder, else right in that; None without any.

    Those right in it may be another's: a note says so.
    """
    if shards := find_shards(folder / name):
        return list_parquet(folder, shards, label=label, name=name)
    if shards := shards_in(folder):
        found = list_parquet(folder, shards, label=label, name=name)
        return replace(found, notes=(*found.notes, f"the parquet files in {folder} are taken for those of {name}"))
    return None


def list_parquet(folder: Path, shards: Shards, *, label: str | None, name: str) -> Listing:
    """List shards as a data set; their bytes are copied once to a file from which any row can be read.

    Args:
        folder: where they were found.
        shards: as ``find_shards`` returns them.
        label: as in ``list_splits``.
        name: of the data set.

    Raises:
        UserError: ``datasets`` is not installed, a shard is damaged or has other columns than the others, or what
            ``list_splits`` raises.
    """
    datasets = require_datasets(folder)
    files = [file for split in shards.values() for file in split]
    _require_same_columns(files)
    try:
        with bars_of(datasets):
            splits = datasets.load_dataset(
                "parquet",
                data_files={split: [glob.escape(str(file)) for file in found] for split, found in shards.items()},
                cache_dir=str(cache_folder() / "parquet"),
            )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"the parquet files in {folder} cannot be read: {error.__cause__ or error}") from error
    return list_splits(splits, name=name, where=folder, label=label, stored_in=files)


def _require_all(files: list[Path]) -> None:
    """Raise UserError where one of ``...-00000-of-00003`` is missing."""
    there: dict[tuple[Path, str, str], set[int]] = {}
    for file in files:  # older ones of the Hub end in a hash each
        if numbered := re.fullmatch(r"(.*-)(\d{5})(-of-\d{5})(-[0-9a-f]+)?\.parquet", file.name):
            start, number, end = numbered.groups()[:3]
            there.setdefault((file.parent, start, end), set()).add(int(number))
    for (folder, start, end), numbers in there.items():
        count = int(end[-5:])
        if missing := set(range(count)) - numbers:
            name = f"{start}{min(missing):05}{end}.parquet"
            raise UserError(f"{folder / name} is missing: the others say that there are {count}")


def _require_same_columns(files: list[Path]) -> None:
    """Raise UserError where a file has other columns than the first, or other names for the numbers of classes.

    ``datasets`` reads the numbers of all by the names of one.
    """
    from datasets import Features
    from pyarrow import ArrowInvalid, parquet  # comes with datasets

    first: list[str] | None = None
    classes: dict[str, tuple[Path, list[str]]] = {}
    for file in files:
        try:
            require_regular(file)
            schema = parquet.read_schema(file)
            columns = schema.names
        except (OSError, ArrowInvalid) as error:
            raise UserError(f"{file} cannot be read, it is no parquet file or is damaged: {error}") from error
        first = first or columns
        if columns != first:
            raise UserError(
                f"{file} has the columns {', '.join(columns)}, but {files[0].name} has {', '.join(first)}"
            )
        for column, kind in Features.from_arrow_schema(schema).items():
            names = getattr(kind, "names", None)
            if names is None:
                continue
            other, known = classes.setdefault(column, (file, names))
            if names != known:
                pairs = enumerate(zip_longest(names, known, fillvalue="no class"))
                number, (here, there) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
                raise UserError(
                    f"in '{column}' the number {number} is '{here}' in {file} and '{there}' in {other.name}: write "
                    "all parts with the same class names, or labels as texts"
                )
