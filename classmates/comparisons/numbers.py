"""The numbers of a comparison as people read them: digits, signs, units."""

from __future__ import annotations

import pandas as pd

from classmates.tasks.protocol import MetricFormat, ProtocolRecord

BETTER, WORSE = "▲", "▼"
"""The marks of rows that are clearly better and clearly worse than the reference."""


def mark(row: pd.Series) -> str:
    """Return the mark of a line: ▲, ▼, or nothing where it is not told apart from the reference."""
    return BETTER if row["marked"] else WORSE if row["marked_worse"] else ""


def unit(part: pd.DataFrame) -> str:
    """Return what the scores are: ``student top-1 accuracy, %``; without whose they are where that differs by row."""
    who = f"{part['who'].iloc[0]} " if part["who"].nunique() == 1 else ""
    how = score_format(part.iloc[0])
    if how is None:
        return f"{who}score"
    if how.percent and how.better == "more":
        return f"{who}{how.title} {part['scale'].iloc[0]}, %"
    return f"{who}{how.heading}"


def difference_unit(part: pd.DataFrame) -> str:
    """Return what differences of the scores are in: ``points`` of shares, else the metric, ``student NLL``."""
    how = score_format(part.iloc[0])
    return "points" if how is None or how.percent else unit(part)


def protocol_in(part: pd.DataFrame) -> ProtocolRecord | None:
    """Return how the runs of a table were judged; None where none has finished."""
    protocol = part["protocol"].iloc[0]
    return protocol if isinstance(protocol, ProtocolRecord) else None


def score_format(row: pd.Series) -> MetricFormat | None:
    """Return how the score of a line is written; None where no run has finished."""
    return row["protocol"].metrics[row["metric"]] if isinstance(row["protocol"], ProtocolRecord) else None


def digits(row: pd.Series) -> int:
    """Return the decimal places of the score of a line."""
    how = score_format(row)
    return 2 if how is None else how.digits


def difference_of(row: pd.Series) -> str:
    """Return the difference of a line to the reference with its unit: ``+1.83 points``."""
    return f"{signed(row['difference'], digits(row))}{points(row)}"


def points(row: pd.Series) -> str:
    """Return ``" points"``, the unit of differences of a score that is a share; nothing of another."""
    how = score_format(row)
    return " points" if how is not None and how.percent else ""


def interval(low: float, high: float, places: int) -> str:
    """Return ``[+0.41, +3.25]``; nothing for NaN."""
    return f"[{signed(low, places)}, {signed(high, places)}]" if pd.notna(low) else ""


def plus_minus(mean: float, std: float, places: int = 2) -> str:
    """Return ``98.30 ± 0.21``, the mean alone where there is no spread, nothing for NaN."""
    return number(mean, f".{places}f") + number(std, f".{places}f", " ± ")


def signed(value: float, places: int = 2) -> str:
    """Return a number with its sign; nothing for NaN."""
    return number(value, f"+.{places}f").replace("-", "−")


def number(value: float, how: str, before: str = "") -> str:
    """Return a number in the format ``how``, with a text before it; nothing for NaN."""
    return f"{before}{value:{how}}" if pd.notna(value) else ""
