"""The pieces of tables and sentences for a terminal of 80 columns."""

from __future__ import annotations

import textwrap

WIDTH = 80
"""Columns of a terminal."""


def wrapped(text: str) -> list[str]:
    """Return a sentence in lines of a terminal."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def signed_points(share: float) -> str:
    """Return a share as percentage points with a sign: ``+0.13``."""
    return f"{100 * share:+.2f}".replace("-", "−")


def aligned(rows: list[list[str]], left: int = 1) -> list[str]:
    """Return rows of cells as lines, the first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def threads_of(count: int) -> str:
    """Return ``1 thread``, ``4 threads``."""
    return f"{count} thread{'s' * (count != 1)}"
