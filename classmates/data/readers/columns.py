"""The columns of a published table that hold images and labels, and the classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from classmates._names import name_of_class
from classmates.data.readers.row_groups import is_group, row_groups
from classmates.errors import UserError, nearest

if TYPE_CHECKING:
    from datasets import Dataset, Features


def image_column(features: Features, where: Path | str) -> str:
    """Return the column of images: known as such, or of bytes, or of structures with bytes.

    Raises:
        UserError: there is none, or there are several and none is called "image" or "img".
    """

    def holds_images(kind: object) -> bool:
        if isinstance(kind, dict):
            return "bytes" in kind
        return type(kind).__name__ == "Image" or getattr(kind, "dtype", None) in ("binary", "large_binary")

    columns = [name for name, kind in features.items() if holds_images(kind)]
    if not columns:
        raise UserError(
            f"{where} has no column of images (the bytes of PNG, JPEG or WebP files), only {', '.join(features)}"
        )
    if len(columns) > 1:  # such as masks beside the images
        columns = [name for name in columns if name in ("image", "img")] or columns
    if len(columns) > 1:
        raise UserError(f"{where} has several columns of images, {', '.join(columns)}: call the right one 'image'")
    return columns[0]


def label_column(features: Features, label: str | None, where: Path | str) -> str:
    """Return the column that was asked for; else the only one of whole numbers or, where there is none, of texts.

    Of several, those that say which rows belong together are left out. Where there are texts too and no numbers but
    theirs, one must be asked for.

    Raises:
        UserError: there is no such column; or several, and none was asked for. The message lists them.
    """
    dtypes = {name: str(getattr(kind, "dtype", "")) for name, kind in features.items()}
    numbers = [name for name, dtype in dtypes.items() if "int" in dtype]
    texts = [name for name, dtype in dtypes.items() if dtype in ("string", "large_string")]
    if label is not None:
        if label not in (*numbers, *texts):
            found = ", ".join([*numbers, *texts]) or "none"
            raise UserError(f"label is '{label}', but {where} has no such column of labels; there are: {found}")
        return label
    columns = numbers or texts
    if not columns:
        raise UserError(f"{where} has no column of labels (whole numbers or texts), only {', '.join(features)}")
    others = [name for name in columns if not is_group(name) or hasattr(features[name], "names")]
    if not others and numbers and texts:  # a text may be a diagnosis, or a file's name
        others = [*numbers, *texts]
    columns = others or columns
    if len(columns) > 1:
        raise UserError(f"{where} has several columns of labels, {', '.join(columns)}: choose one with --label")
    return columns[0]


def class_numbers(
    parts: Mapping[str, Dataset], label: str, where: Path | str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the class names, and for each part that has labels its class numbers, [N], int64.

    A column that names its classes keeps their numbers; in others, the classes are the values that the training
    split has, in their order, texts as ``name_of_class`` writes them. Published without labels are parts whose labels
    are all empty or −1.

    Raises:
        UserError: some labels of a part are missing, or a part has a label that is no class, or too large a number.
    """
    values = {}
    for part, table in parts.items():
        column, missing = _values(table, label, where)
        if missing.any() and not missing.all():
            raise UserError(
                f"{missing.sum()} of {len(missing)} rows of the {part} split of {where} have no {label} (empty or -1)"
            )
        if not missing.any():
            values[part] = column
    if "train" not in values:
        raise UserError(f"the training split of {where} has no labels in the column '{label}'")
    names = getattr(parts["train"].features[label], "names", None)
    classes = np.unique(values["train"]) if names is None else np.arange(len(names))
    names = tuple(map(str, classes if names is None else names))
    for part, column in values.items():
        unknown = np.setdiff1d(column, classes)
        if len(unknown):
            raise UserError(
                f"the {part} split of {where} has a label '{unknown[0]}', which is no class of the training split: "
                f"{nearest(str(unknown[0]), names)}"
            )
    return names, {part: np.searchsorted(classes, column) for part, column in values.items()}


def group_numbers(
    parts: Mapping[str, Dataset], label: str, labels: Mapping[str, np.ndarray]
) -> tuple[dict[str, Tensor | None], list[str]]:
    """Return for each part the number of each row's group, [N], None without groups; and notes.

    A group has the same number in all parts. Its column is one of texts, or of numbers, which may be fractional ones
    where some are missing.

    Args:
        parts: the tables.
        label: the column of labels.
        labels: the class numbers of each part, [N].
    """
    dtypes = {name: str(getattr(kind, "dtype", "")) for name, kind in parts["train"].features.items()}
    plain = [name for name, dtype in dtypes.items() if re.search("int|float|string", dtype)]
    columns = [name for name in plain if is_group(name) and name != label]
    if not columns:
        return dict.fromkeys(parts), []
    rows = {label: np.concatenate([labels[part] for part in parts]).astype(str)}
    for name in columns:
        cells = [table.data.column(name).cast("string").fill_null("").to_numpy() for table in parts.values()]
        rows[name] = np.concatenate(cells)
    groups, notes = row_groups(pd.DataFrame(rows), label, [])
    if groups is None:
        return dict.fromkeys(parts), notes
    return dict(zip(parts, groups.split([len(table) for table in parts.values()]), strict=True)), notes


def _values(table: Dataset, label: str, where: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels as published, [N], and which of them are missing, [N].

    Raises:
        UserError: a number is too large for a label.
    """
    column = table.data.column(label)
    missing = column.is_null().to_numpy()
    if "int" in table.features[label].dtype:
        try:
            numbers = column.cast("int64").fill_null(-1).to_numpy()
        except ValueError as error:  # of an unsigned type
            said = f"the labels '{label}' of {where} are too large ({error}): number the classes from 0"
            raise UserError(said) from error
        return numbers, missing | (numbers == -1)
    texts, which = np.unique(column.fill_null("").to_numpy().astype(str), return_inverse=True)
    values = np.array([name_of_class(text) for text in texts.tolist()])[which]
    return values, values == ""
