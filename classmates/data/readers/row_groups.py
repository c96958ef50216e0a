"""The columns of a table of images that say which rows are of one thing seen several times."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from classmates.data.groups import connected

GROUPS = (
    *("group", "patient", "subject", "participant", "person", "individual", "case", "lesion", "slide"),
    *("sequence", "seq", "video", "burst"),
)
"""What such a column is called, alone or with ``id`` or ``number``."""
UNKNOWN = ("", "-", "?", "-1", "na", "n/a", "nan", "none", "null", "unknown")
"""What stands in it, in any case, where a row's group is not known."""


def is_group(column: str) -> bool:
    """Return whether a column is called as those are that say which rows belong together: ``Patient ID``."""
    return re.sub(r"[\W_]*(id|number|no|nr)\.?$", "", column.strip().lower()) in GROUPS


def row_groups(rows: pd.DataFrame, label: str, others: Collection[str | None]) -> tuple[Tensor | None, list[str]]:
    """Return the number of each row's group, [N], and notes; rows that one of several columns ties are of one group.

    A row whose group is not known is its own. A column of which each class has one value only says nothing more than
    the classes do, and is left out with a note.

    Args:
        rows: texts.
        label: the column of labels.
        others: columns that have another meaning.
    """
    groups: Tensor | None = None
    taken, notes = [], []
    for column in map(str, rows.columns):
        if column == label or column in others or not is_group(column):
            continue
        cells = rows[column].str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)  # as pandas writes gaps
        known = ~cells.str.lower().isin(UNKNOWN)
        if not known.any():
            continue
        numbers, values = pd.factorize(cells.where(known))
        if len(values) == known.sum():  # every row is its own
            continue
        if cells[known].groupby(rows[label]).nunique().max() == 1:
            notes.append(f"'{column}' is not taken for groups: each class has one only")
            continue
        of_rows = torch.from_numpy(np.where(known, numbers, len(values) + np.arange(len(rows))))
        groups = of_rows if groups is None else connected(groups, of_rows)
        taken.append(f"'{column}'")
    if taken:
        notes.insert(0, f"rows of the same {' or '.join(taken)} are of one group")
    return groups, notes
