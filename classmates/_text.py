"""Text for a terminal: prose in lines, cells in columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

WIDTH = 80
"""Columns of a terminal, where it is not known how many it has."""
JOINT = " \\"
"""The end of a line of a command that goes on in the next."""
WORD = r"""(?:'[^']*'|"[^"]*"|\S)+"""
WORDS = re.compile(rf"--[\w.]+ (?!-){WORD}|{WORD}")
"""The parts of a command that stay on one line."""


def filled(text: str, width: int = WIDTH, indent: str = "  ") -> list[str]:
    """Return prose in lines, those after the first indented; words longer than a line, such as paths, stay whole."""
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def command_lines(command: str, width: int = WIDTH) -> list[str]:
    """Return a command in lines that can be copied as one, those after the first indented by two more.

    What stands in quotes stays whole, and a flag's value on its line if there is room for it.
    """
    indent = " " * (len(command) - len(command.lstrip()) + 2)
    room = width - len(JOINT)
    lines = [""]
    for words in WORDS.findall(command):
        longer = f"{lines[-1]} {words}" if lines[-1] else indent[2:] + words
        if len(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            parts = words.split(" ", 1) if words.startswith("--") and len(indent + words) > room else [words]
            lines += [indent + part for part in parts]
    return [*(line + JOINT for line in lines[:-1]), lines[-1]]


def plural(count: int, thing: str, things: str | None = None) -> str:
    """Return ``1 image``, ``2,000 images``; ``things`` where that is not the word with an s."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return rows of cells as lines, the first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
