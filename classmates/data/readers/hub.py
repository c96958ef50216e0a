"""Data sets of the Hugging Face Hub, and of its layout: tables with images in one column and labels in others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from huggingface_hub.utils import validate_repo_id
from torch import Tensor

from classmates._progress import bars_of
from classmates.data.parts import Encoded, ImageFile, Split
from classmates.data.readers.columns import class_numbers, group_numbers, image_column, label_column
from classmates.data.readers.listing import Listing
from classmates.data.readers.part_names import parts_among
from classmates.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


class Rows:
    """The images of one split, in the rows of a table that is mapped from disk."""

    def __init__(self, images: Dataset, name: str, rows: np.ndarray) -> None:
        """images: the image column alone. name: of the split. rows: which of its rows, [N]."""
        self.images = images
        self.name = name
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> ImageFile:
        row = int(self.rows[index])
        cell = self.images.data.column(0)[row].as_py()  # the bytes, or {"bytes": ..., "path": ...}
        content = cell["bytes"] if isinstance(cell, dict) else cell
        if content is None and isinstance(cell, dict) and cell["path"]:
            return Path(cell["path"])
        return Encoded(f"in row {row} of {self.name}", content or b"")

    def identity(self) -> Iterator[bytes]:
        """Yield the split's name, the column and the rows; see ``Files``."""
        yield f"{self.name}: {', '.join(self.images.column_names)}".encode()
        yield self.rows.tobytes()

    def take(self, indices: Tensor, /) -> Rows:
        return Rows(self.images, self.name, self.rows[indices.numpy()])


def list_hub(name: str, data_dir: Path | None, label: str | None) -> Listing:
    """Return a data set of the Hub, downloaded by the ``datasets`` library.

    Args:
        name: ``NAME`` or ``NAME:CONFIG``, as on the Hub.
        data_dir: where ``datasets`` keeps what it downloads; its own place if None.
        label: as in ``list_splits``.

    Raises:
        UserError: ``datasets`` is not installed, the Hub cannot be reached or has no such set, or what
            ``list_splits`` raises.
    """
    datasets = require_datasets(f"hf:{name}")
    repository, _, config = name.partition(":")
    try:
        if not (repository and Path(repository).exists()):  # a local copy of a set is read by the library itself
            validate_repo_id(repository)
        with bars_of(datasets):
            splits = datasets.load_dataset(repository, config or None, cache_dir=data_dir)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"hf:{name} cannot be loaded: {error}\nwhere the network is closed, put the set's parquet files "
            f"(`hf download {repository} --repo-type dataset`) into a folder and give that folder as data"
        ) from error
    short = repository.rpartition("/")[2]
    stored_in = [Path(file["filename"]) for table in splits.values() for file in table.cache_files]
    return list_splits(splits, name=short, where=f"hf:{name}", label=label, stored_in=stored_in)


def require_datasets(data: str | Path) -> ModuleType:
    """Return the ``datasets`` library; UserError where it is not installed."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError(f"{data} needs the library datasets: pip install 'classmates[data]'") from error
    return datasets


def list_splits(
    splits: Mapping[str, Dataset],
    *,
    name: str,
    where: Path | str,
    label: str | None,
    stored_in: Sequence[Path] = (),
) -> Listing:
    """List splits as the Hub publishes them; without a labelled test split, the validation split is the test set.

    Args:
        splits: the tables by their published names.
        name: of the data set.
        where: as in Listing.
        label: which column holds the labels, where there are several.
        stored_in: as in Listing.

    Raises:
        UserError: there is no training split, no image column or none of that label, several and none was chosen,
            the columns of the splits differ, or some labels are missing.
    """
    parts, notes = _parts(splits, where)
    features = parts["train"].features
    for part, table in parts.items():
        if table.column_names != parts["train"].column_names:
            raise UserError(
                f"the {part} split of {where} has the columns {', '.join(table.column_names)}, "
                f"but the training split {', '.join(features)}"
            )
    image = image_column(features, where)
    asked, label = label, label_column(features, label, where)
    class_names, labels = class_numbers(parts, label, where)
    for part in parts.keys() - labels.keys():
        notes.append(f"the {part} split of {where} has no labels, not used")
        del parts[part]
    published = {part: part for part in parts}
    if "test" not in parts and "val" in parts:
        notes.append(f"no labelled test split in {where}: its validation split is the test set")
        parts["test"], labels["test"], published["test"] = parts.pop("val"), labels["val"], "val"
    groups, of_groups = group_numbers(parts, label, labels)
    if of_groups and asked is None:
        notes.append(f"labels of {where} in '{label}'")
    return Listing(
        name=name,
        where=where,
        class_names=class_names,
        parts={
            part: Split(
                torch.from_numpy(labels[part]),
                paths=Rows(table.select_columns([image]), f"{published[part]} of {where}", np.arange(len(table))),
                groups=groups[part],
            )
            for part, table in parts.items()
        },
        notes=(*notes, *of_groups),
        stored_in=stored_in,
    )


def _parts(splits: Mapping[str, Dataset], where: Path | str) -> tuple[dict[str, Dataset], list[str]]:
    names, others = parts_among(splits, where)
    if "train" not in names:
        raise UserError(f"{where} has no training split, only {', '.join(splits)}")
    parts = {part: splits[name] for part, name in names.items()}
    return parts, [f"splits of {where} not used: {', '.join(others)}"] if others else []
