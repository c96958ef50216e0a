"""A table of image files and their labels, CSV or TSV, as a data set."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from classmates._files import require_regular
from classmates.data.parts import Split
from classmates.data.readers.listing import Listing
from classmates.data.readers.part_names import PARTS, part_of
from classmates.data.readers.paths import Paths
from classmates.data.readers.walking import Walk
from classmates.errors import UserError

SUFFIXES = (".csv", ".tsv")
FILES = ("file", "filename", "file_name", "image", "image_name", "image_path", "path", "filepath", "id", "image_id")
"""What a column of files is called, where several could be one, the likeliest first."""
LABELS = ("label", "class", "class_name", "category", "target")
"""What a column of labels is called, the likeliest first."""
DIVISIONS = ("split", "part", "subset", "set", "partition")
"""What a column is called that says to which part a row belongs."""


def is_table(data: str | Path) -> bool:
    """Return whether data are a table of files and labels, by the end of the name."""
    return Path(data).suffix.lower() in SUFFIXES


def list_table(table: Path, data_dir: Path | None, label: str | None) -> Listing:
    """Find the images that a table names, each with its label and, if a column says so, its part.

    The column of files is the one whose first value is a file here. A file is known by the end of its path, which may
    lack its extension; steps at its beginning that no file here has are left out, of all rows alike. A file that is
    not here is an image that cannot be read.

    Args:
        table: with the names of its columns in the first row; fields apart by commas, semicolons or tabs.
        data_dir: the folder below which the images lie; the table's own if None.
        label: the column of labels; by its name, or the only one left, if None.

    Raises:
        UserError: the table cannot be read, has no such columns, a row without a label, a file in two rows, or none
            of its files is here or one of them several times.
    """
    rows = _read(table)
    root = table.parent if data_dir is None else data_dir
    if not root.is_dir():
        raise UserError(f"data_dir is '{root}', which is no folder: give the one with the images of {table}")
    here = _Files(Walk(root).images(""), root)
    column = _file_column(rows, here, table, label)
    division = next(
        (name for name in rows.columns if name.lower() in DIVISIONS and name not in (column, label)), None
    )
    label = _label_column(rows, label, [column, division], table)
    rows, parts, notes = _by_part(rows, division, table)
    files, more = here.of(rows[column].tolist(), table)
    _require_rows(table, files, rows[label])
    if unused := len(here.names - set(files)):
        more.append(f"{unused} images in {root} are in no row of {table.name}, not used")
    names = sorted(set(rows[label]))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    labels = torch.tensor(rows[label].map({name: number for number, name in enumerate(names)}).to_numpy())
    paths = Paths(root, [files])
    return Listing(
        name=table.stem,
        where=root,
        class_names=tuple(names),
        parts={part: Split(labels[at], paths=paths.take(at)) for part, at in parts.items()},
        notes=(f"{table.name}: files in column '{column}', labels in column '{label}'", *notes, *more),
        stored_in=paths,
    )


class _Files:
    """The image files below a folder, found by the ends of their paths."""

    def __init__(self, names: Sequence[str], root: Path):
        self.names, self.root = set(names), root
        self._by_last: dict[str, list[str]] = {}
        for name in names:
            last = name.rpartition("/")[2]
            for known in (last, last.rpartition(".")[0]):
                self._by_last.setdefault(known, []).append(name)

    def ending(self, path: str) -> list[str]:
        """Return the files whose paths, or these without their extension, end with a path; one that is it, alone."""
        if path in self.names:
            return [path]
        alike = self._by_last.get(path.rpartition("/")[2], [])
        return [
            name
            for name in alike
            if f"/{name}".rpartition(".")[0].endswith(f"/{path}") or f"/{name}".endswith(f"/{path}")
        ]

    def of(self, wanted: Sequence[str], table: Path) -> tuple[list[str], list[str]]:
        """Return the file that each name of a table stands for, and notes; a name without one stays as it is."""
        steps = [[step for step in name.replace("\\", "/").split("/") if step not in ("", ".")] for name in wanted]
        for dropped in range(max(map(len, steps))):
            found = [self.ending("/".join(of_one[dropped:])) for of_one in steps]
            if any(found):
                break
        else:
            raise UserError(
                f"none of the {len(wanted)} files that {table} names is below {self.root}, such as '{wanted[0]}': "
                "give the folder with the images as data_dir"
            )
        for name, files in zip(wanted, found, strict=True):
            if len(files) > 1:
                raise UserError(
                    f"{table} names '{name}', which may be {files[0]} or {files[1]} in {self.root}: write more of "
                    "its path, or its extension"
                )
        taken = next((name, files[0]) for name, files in zip(wanted, found, strict=True) if files)
        notes = [f"'{taken[0]}' of {table.name} is {taken[1]} here, and so for the others"] if dropped else []
        return [files[0] if files else name for name, files in zip(wanted, found, strict=True)], notes


def _read(table: Path) -> pd.DataFrame:
    """Return the rows as texts, without spaces around them."""
    try:
        require_regular(table)
        text = table.read_text(encoding="utf-8-sig")
        sep = max(",;\t", key=text.partition("\n")[0].count)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than there are names
            rows = pd.read_csv(io.StringIO(text), sep=sep, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UserError(f"{table} cannot be read as a table of files and labels: {error}") from error
    if rows.empty:
        raise UserError(f"{table} has no rows: give a table with a column of files and one of labels")
    return rows.rename(columns=str.strip).map(str.strip)


def _file_column(rows: pd.DataFrame, files: _Files, table: Path, label: str | None) -> str:
    """Return the column whose first value is a file here: of several the one that is called so, or the first."""
    first = {str(name): str(rows[name].iloc[0]) for name in rows.columns if name != label}

    def here(value: str) -> bool:
        last = value.replace("\\", "/").rpartition("/")[2]
        return bool(last) and bool(files.ending(last))

    if any(map(here, map(str, rows.columns))):
        raise UserError(
            f"{table} has an image in its first row: write the columns' names above it, such as file,label"
        )
    columns = _by_name([name for name, value in first.items() if here(value)], FILES)
    if not columns:
        values = ", ".join(f"{name} = '{value}'" for name, value in first.items())
        raise UserError(
            f"no column of {table} names an image below {files.root}, where there are {len(files.names)} (the first "
            f"row: {values}): give the folder with the images as data_dir"
        )
    return columns[0]


def _label_column(rows: pd.DataFrame, label: str | None, others: Sequence[str | None], table: Path) -> str:
    columns = [str(name) for name in rows.columns if name not in others]
    if label is not None:
        if label not in columns:
            raise UserError(f"label is '{label}', but {table} has no such column of labels: {', '.join(columns)}")
        return label
    called = _by_name([name for name in columns if name.lower() in LABELS], LABELS)
    if not called and len(columns) != 1:
        raise UserError(
            f"{table} has {'no column of labels' if not columns else 'several columns, ' + ', '.join(columns)}: "
            "say which has the labels with --label"
        )
    return called[0] if called else columns[0]


def _by_name(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return columns sorted by how likely their names are; others last, in their order."""
    return sorted(columns, key=lambda name: names.index(name.lower()) if name.lower() in names else len(names))


def _require_rows(table: Path, files: Sequence[str], labels: pd.Series) -> None:
    """Raise UserError for a row without a label, and for a file in two rows."""
    if (empty := labels == "").any():
        row = int(empty.to_numpy().argmax())
        raise UserError(
            f"{int(empty.sum())} rows of {table} have nothing in '{labels.name}', such as that of {files[row]}: "
            "label or remove them"
        )
    twice = pd.Series(files).duplicated(keep=False).to_numpy()
    if twice.any():
        first = files[int(twice.argmax())]
        given = [f"'{name}'" for file, name in zip(files, labels, strict=True) if file == first]
        raise UserError(f"{table} has {first} in {len(given)} rows, as {' and '.join(given)}: keep one of them")


def _by_part(
    rows: pd.DataFrame, division: str | None, table: Path
) -> tuple[pd.DataFrame, dict[str, Tensor], list[str]]:
    """Return the rows of parts, one part after the other, where each has its rows, and a note on rows of none."""
    if division is None:
        return rows, {"train": torch.arange(len(rows))}, []
    found = rows[division].map({value: part_of(value) for value in rows[division].unique()})
    by_part = {part: rows[found == part] for part in PARTS if (found == part).any()}
    others = sorted(set(rows[division][found.isna()]))
    if not by_part:
        raise UserError(
            f"the column '{division}' of {table} has none of {', '.join(PARTS)}, but {', '.join(others[:5])}: name "
            "the parts so, or the column otherwise"
        )
    notes = [f"rows of {table.name} whose {division} is {', '.join(others[:5])} are not used"] if others else []
    places = torch.arange(sum(map(len, by_part.values()))).split(list(map(len, by_part.values())))
    return pd.concat(by_part.values(), ignore_index=True), dict(zip(by_part, places, strict=True)), notes
