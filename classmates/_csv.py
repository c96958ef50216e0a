"""Tables as CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that spreadsheets take for a formula (OWASP, CSV injection).

The last four are = + - @ in full width.
"""

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
"""What is a number and no formula, though it begins with a sign."""


def as_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV without its index; a text that a spreadsheet would run has an apostrophe before it.

    Names of classes, files and rows come from wherever the data came from. Numbers stay as they are.
    """
    return frame.map(harmless).rename(columns=harmless).to_csv(index=False)


def harmless(value: Any) -> Any:
    """Return a text with an apostrophe before it where it would be a formula and is no number, or else the value."""
    runs = isinstance(value, str) and value.lstrip(" ").startswith(RUN) and not NUMBER.fullmatch(value)
    return f"'{value}" if runs else value
