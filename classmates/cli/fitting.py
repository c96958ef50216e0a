"""Results as text in a terminal: prose wrapped at words, tables that are too wide in parts below each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from classmates._text import JOINT, command_lines, filled

GAP = re.compile(" {2,}")
NARROWEST = 20
"""Columns that a cell has at least, where it goes on in further lines."""


def fitted(text: str, columns: int) -> str:
    """Return a text in lines of at most so many columns, but for words, such as paths, that are longer themselves."""
    parts: list[str] = []
    for blank, group in groupby(text.splitlines(), key=lambda line: not line.strip()):
        lines = [*group]
        parts += lines if blank else fitted_block(lines, columns)
    return "\n".join(parts)


def fitted_block(lines: Sequence[str], columns: int) -> Sequence[str]:
    """Return lines without a blank one between them; aligned in columns they are a table."""
    if max(map(len, lines)) <= columns:
        return lines
    lines = re.sub(rf"{re.escape(JOINT)}\n *", " ", "\n".join(lines)).splitlines()
    cells = [*table_of(lines)]
    if len(lines) == 1 or len(cells) == 1 or len(cells[0][0]) > columns / 2:
        return [part for line in lines for part in wrapped_line(line, columns)]
    parts = [[*under(row, columns)] for part in parts_of(cells, columns) for row in ((), *zip(*part, strict=True))]
    return [line for lines in parts for line in lines][1:]


def under(row: Sequence[str], columns: int) -> Iterator[str]:
    """Yield the lines of a table's row; a last cell that is too wide goes on below its own beginning."""
    line = "".join(row).rstrip()
    if len(line) <= columns:
        yield line
        return
    before = "".join(row[:-1])
    first, *others = filled(row[-1].rstrip(), max(columns - len(before), NARROWEST), indent="")
    yield before + first
    yield from (" " * len(before) + other for other in others)


def wrapped_line(line: str, columns: int) -> list[str]:
    """Return a line of prose in several, those after the first indented by two more; a command stays one to copy."""
    if len(line) <= columns:
        return [line]
    if line.lstrip().startswith("classmates "):
        return command_lines(line, columns)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return filled(line, columns, indent)


def table_of(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the columns of a table, each with the space before the next one."""
    width = max(map(len, lines))
    padded = [line.ljust(width) for line in lines]
    empty = "".join(" " if all(line[at] == " " for line in padded) else "x" for at in range(width))
    ends = [gap.end() for gap in GAP.finditer(empty) if gap.start() > 0 and gap.end() < width]
    for start, end in zip([0, *ends], [*ends, width], strict=True):
        yield [line[start:end] for line in padded]


def parts_of(cells: Sequence[list[str]], columns: int) -> list[list[list[str]]]:
    """Return the columns of a table in parts that fit, each with the first column, which says whose row it is."""
    first, *others = cells
    parts = [[first]]
    for column in others:
        used = sum(len(one[0]) for one in parts[-1])
        if len(parts[-1]) > 1 and used + len(max(map(str.rstrip, column), key=len)) > columns:
            parts.append([first])
        parts[-1].append(column)
    return parts
