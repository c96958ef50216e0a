"""A table of image files and their labels, CSV or TSV, as a data set."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from classmates._files import require_regular
from classmates._names import name_of_class
from classmates.data.parts import Split
from classmates.data.readers.files_below import FilesBelow, steps_of
from classmates.data.readers.listing import Listing
from classmates.data.readers.opening import EXTENSIONS
from classmates.data.readers.part_names import PARTS, part_of, parts_among
from classmates.data.readers.paths import Paths
from classmates.data.readers.row_groups import UNKNOWN, is_group, row_groups
from classmates.errors import UserError

SUFFIXES = (".csv", ".tsv")
FILES = ("file", "filename", "file_name", "image", "image_name", "image_path", "path", "filepath", "id", "image_id")
"""What a column of files is called, where several could be one, the likeliest first."""
LABELS = ("label", "class", "class_name", "category", "target")
"""What a column of labels is called, the likeliest first."""
WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
"""A whole number, also as pandas writes it in a column that has gaps."""
DIVISIONS = ("split", "part", "subset", "set", "partition")
"""What a column is called that says to which part a row belongs."""


def is_table(data: str | Path) -> bool:
    """Return whether data are a table of files and labels, by the end of the name."""
    return Path(data).suffix.lower() in SUFFIXES


def list_table(table: Path, data_dir: Path | None, label: str | None) -> Listing:
    """Find the images that a table names, each with its label and, if a column says so, its part.

    The column of files is the one with the most names of files that are here. A file is known by the end of its path,
    which may lack its extension; steps at its beginning that no file here has are left out, of all rows alike. A file
    that is not here is an image that cannot be read.

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
    here = FilesBelow(root)
    column = _file_column(rows, here, table, label)
    division = _division(rows, [column, label], table)
    label = _label_column(rows, label, [column, division], table)
    rows[label] = rows[label].map(name_of_class)
    groups, of_groups = row_groups(rows, label, [column, division])
    files, notes = here.named(rows[column].tolist(), table)
    parts, more = _parts(rows, division, table)
    used = torch.cat([*parts.values()]).numpy()
    _require_rows(table, [files[index] for index in used], rows[label].iloc[used])
    more += _unknown(rows[label].iloc[used], table)
    more += _same_number(rows[label].iloc[used])
    if unused := len(here.names - set(files)):
        more.append(f"images in {root} that are in no row of {table.name}, not used: {unused}")
    classes = _classes(rows[label].iloc[used])
    order = {name: number for number, name in enumerate(classes)}
    numbers = torch.tensor([order.get(name, -1) for name in rows[label]])
    paths = Paths(root, [[files[index] for index in used]])
    places = torch.arange(len(used)).split([len(at) for at in parts.values()])
    return Listing(
        name=table.stem,
        where=root,
        class_names=tuple(classes),
        parts={
            part: Split(numbers[at], paths=paths.take(place), groups=None if groups is None else groups[at])
            for (part, at), place in zip(parts.items(), places, strict=True)
        },
        notes=(f"{table.name}: files in '{column}', labels in '{label}'", *of_groups, *notes, *more, *here.notes),
        stored_in=paths,
    )


def _read(table: Path) -> pd.DataFrame:
    """Return the rows as texts, without spaces around them."""
    try:
        require_regular(table)
        text = table.read_text(encoding="utf-8-sig").lstrip("\r\n")
        said = re.match(r"sep=(.)\r?\n", text)  # as Excel writes it
        text = text[said.end() :] if said else text
        unquoted = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
        separator = said[1] if said else "\t" if table.suffix.lower() == ".tsv" else max(",;\t", key=unquoted.count)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than there are names
            rows = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skipinitialspace=True,
            )
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        if isinstance(error, pd.errors.ParserWarning):
            why = "rows have more fields than its first line has names: that must be the header"
        else:
            why = f"{error}{': save it as UTF-8' if isinstance(error, UnicodeDecodeError) else ''}"
        raise UserError(f"{table} cannot be read as a table of files and labels: {why}") from error
    rows = rows.rename(columns=str.strip)
    header = next(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True), [])
    names = [name.strip() for name in header]
    if twice := [name for name in names if name and names.count(name) > 1]:  # pandas calls the second one NAME.1
        raise UserError(f"{table} has two columns called '{twice[0]}': rename one")
    if rows.map(lambda text: "\0" in text).to_numpy().any():
        raise UserError(f"{table} has a zero byte in a field, which no file's name can have: mend that row")
    if rows.empty:
        raise UserError(f"{table} has no rows: give a table with a column of files and one of labels")
    return rows.map(str.strip)


def _file_column(rows: pd.DataFrame, files: FilesBelow, table: Path, label: str | None) -> str:
    """Return the column that names the most files, by their whole names before those without extension."""
    columns = [str(name) for name in rows.columns if name != label]
    _require_header([name for name in columns if name.lower().endswith(EXTENSIONS)], files, table)
    found = {name: _count(rows[name], files) for name in columns}
    best = max(found.values(), default=(0, 0))
    if not any(best):
        first = ", ".join(f"{name} = '{rows[name].iloc[0]}'" for name in columns)
        why = (
            f"no column of {table} names an image below {files.root}, where there are {len(files.names)} (the first "
            f"row: {first}): give the folder with the images as data_dir"
        )
        raise UserError("\n".join([why, *files.notes]))
    likely = _by_name([name for name in columns if found[name] == best], FILES)
    if likely[0].lower() not in FILES:
        _require_header(likely, files, table)
        if len(likely) > 1:
            raise UserError(f"{table} has several columns of files, {', '.join(likely)}: call the right one 'file'")
    return likely[0]


def _require_header(columns: Sequence[str], files: FilesBelow, table: Path) -> None:
    """Raise UserError where a column's name is that of an image: the first row is then one like the others."""
    if images := [name for name in columns if files.ending(_last_step(name))]:
        raise UserError(
            f"{table} has an image, '{images[0]}', in its first row: write the columns' names above it, such as "
            "file,label"
        )


def _last_step(path: str) -> str:
    return (steps_of(path) or [""])[-1]


def _count(values: pd.Series, files: FilesBelow) -> tuple[int, int]:
    """Return how many files a column's values name, and how many if the extension may be missing.

    Each counts once: a column of labels may name some files, "0" and "1" those of these names, in every row.
    """
    found = [value for value in {*map(_last_step, values)} if files.ending(value)]
    return sum(value.lower().endswith(EXTENSIONS) for value in found), len(found)


def _division(rows: pd.DataFrame, others: Sequence[str | None], table: Path) -> str | None:
    """Return the column that says to which part a row belongs, if there is one."""
    columns = [str(name) for name in rows.columns if name.lower() in DIVISIONS and name not in others]
    for name in columns:
        if any(map(part_of, rows[name].unique())):
            return name
    if columns:
        there = ", ".join(f"'{value}'" for value in sorted(rows[columns[0]].unique())[:5])
        raise UserError(
            f"the column '{columns[0]}' of {table} has none of {', '.join(PARTS)}, but {there}: name the parts so, "
            "or the column otherwise"
        )
    return None


def _label_column(rows: pd.DataFrame, label: str | None, others: Sequence[str | None], table: Path) -> str:
    columns = [str(name) for name in rows.columns if name not in others]
    if label is not None:
        if label not in columns:
            raise UserError(f"label is '{label}', but {table} has no such column of labels: {', '.join(columns)}")
        return label
    called = _by_name([name for name in columns if name.lower() in LABELS], LABELS)
    # Columns that say which rows belong together are the labels only where there is no other.
    columns = [name for name in columns if not is_group(name)] or columns
    if not called and len(columns) != 1:
        raise UserError(
            f"{table} has {'no column of labels' if not columns else 'several columns, ' + ', '.join(columns)}: "
            f"say which has the labels with --label{_one_hot(rows[columns])}"
        )
    return called[0] if called else columns[0]


def _one_hot(columns: pd.DataFrame) -> str:
    """Return what can be done where several columns hold 0 and 1 alone, as of a class each; else nothing."""
    binary = [str(name) for name in columns if set(columns[name]) <= {"0", "1", "0.0", "1.0"}]
    if len(binary) < 2:
        return ""
    return (
        f"; where {', '.join(binary)} are the classes, make one column of them (pandas: "
        "frame[CLASSES].astype(float).idxmax(axis=1)); an image has one class"
    )


def _by_name(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return columns sorted by how likely their names are; others last, in their order."""
    return sorted(columns, key=lambda name: names.index(name.lower()) if name.lower() in names else len(names))


def _parts(rows: pd.DataFrame, division: str | None, table: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return the numbers of the rows of each part, and a note on rows of none."""
    if division is None:
        return {"train": torch.arange(len(rows))}, []
    names, others = parts_among(rows[division].unique(), f"the column '{division}' of {table}")
    parts = {part: torch.from_numpy((rows[division] == name).to_numpy().nonzero()[0]) for part, name in names.items()}
    there = ", ".join(f"'{value}'" for value in others[:5])
    return parts, [f"rows of {table.name} whose {division} is {there} are not used"] if others else []


def _require_rows(table: Path, files: Sequence[str], labels: pd.Series) -> None:
    """Raise UserError for a row without a label, and for a file in two rows."""
    if (empty := (labels == "").to_numpy()).any():
        raise UserError(
            f"{int(empty.sum())} rows of {table} have nothing in '{labels.name}', such as that of "
            f"{files[int(empty.argmax())]}: label or remove them"
        )
    twice = pd.Series(files).duplicated(keep=False).to_numpy()
    if twice.any():
        first = files[int(twice.argmax())]
        given = [f"'{name}'" for file, name in zip(files, labels, strict=True) if file == first]
        raise UserError(f"{table} has {first} in {len(given)} rows, as {' and '.join(given)}: keep one of them")


def _classes(labels: pd.Series) -> list[str]:
    """Return the classes, whole numbers (also as 10.0) in their order, others in that of the alphabet."""
    names = sorted(labels.unique())
    return sorted(names, key=Decimal) if all(map(WHOLE.fullmatch, names)) else names


def _same_number(labels: pd.Series) -> list[str]:
    """Return a note on a number that is written in several ways: each is a class of its own."""
    written: dict[Decimal, list[str]] = {}
    for name in sorted(labels.unique()):
        if WHOLE.fullmatch(name):
            written.setdefault(Decimal(name), []).append(name)
    told = "; ".join(" and ".join(map(repr, names)) for names in written.values() if len(names) > 1)
    return [f"classes whose names are the same number: {told}; if they are one, write them alike"] if told else []


def _unknown(labels: pd.Series, table: Path) -> list[str]:
    """Return a note on labels that are classes here, and by their names may mean that the label is not known."""
    found = labels[labels.str.lower().isin({*UNKNOWN} - {"-1"})].value_counts()
    told = ", ".join(f"'{name}' in {count} rows" for name, count in found.items())
    return [f"{told} of {table.name}: a class like others; if that means 'not known', remove them"] if told else []
