"""The verdict of a comparison: the best row, what is clearly worse, and the cheapest row that does as well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

import pandas as pd

from classmates.comparisons.numbers import difference_of, digits, interval
from classmates.comparisons.ranking import LEAST_SEEDS, best_row, cheapest_within_noise, gain
from classmates.reporting.page import sentence

MOST_NAMED = 4
"""The most rows that a sentence names; it counts the rest."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on the rows of one model and data set, in sentences.

    Args:
        model, data: of the rows.
        figure: the best row that is clearly better, and its difference; empty where none is.
        finding: the same with its interval and seeds, or that no row is clearly better.
        others: which further rows are clearly better, and which are clearly worse; may be empty.
        advice: the cheapest row within noise of the best, and what the best costs; may be empty.
    """

    model: str
    data: str
    figure: str
    finding: str
    others: str
    advice: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.finding, self.others, self.advice) if part)


def verdict(part: pd.DataFrame) -> Verdict:
    """Return what the lines of one model and data set, as ``comparison_table`` has them, amount to."""
    finished = part[part["seeds"] > 0].set_index("row", drop=False)
    best = best_row(part)
    clear = best is not None and bool(_line(finished, best)["marked"])
    return Verdict(
        model=str(part["model"].iloc[0]),
        data=str(part["data"].iloc[0]),
        figure=f"{best}: {difference_of(_line(finished, str(best)))}" if clear else "",
        finding=_finding(finished, best),
        others=_others(finished, best),
        advice=_advice(finished, best),
    )


def verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Return the verdict of every model and data set of a comparison's table."""
    return [verdict(part) for _, part in table.groupby(["data", "model"], sort=False)]


def as_lines(found: Iterable[Verdict]) -> list[str]:
    """Return verdicts as texts, those of several models and data sets with their names."""
    found = list(found)
    if len(found) == 1:
        return [str(found[0])]
    return [f"{one.model}, {one.data}: {one}" for one in found]


def _finding(finished: pd.DataFrame, best: str | None) -> str:
    if finished.empty:
        return "Nothing has finished yet."
    reference = str(finished["reference"].iloc[0])
    if best is None:
        return f"Nothing can be said yet: {reference} and another row need a finished run of the same seed."
    line = _line(finished, best)
    if line["marked"]:
        higher = _line(finished, str(gain(finished).idxmax()))
        unsure = f" {higher['row']} gains more in the mean, but not clearly: {_against(higher)}."
        return f"{best}: {_against(line)}.{unsure if higher['row'] != best else ''}"
    if (finished["pairs"] < 2).all():
        none = f"One seed cannot say which row is better than {reference}"
    else:
        none = f"No row is clearly better than {reference}"
    few = gain(finished).max() > max(0.0, float(gain(finished)[best]))  # some row of one or two seeds is higher
    of_those = f"of those with {LEAST_SEEDS} seeds or more " if few else ""
    most = "highest" if line["better_if"] == "more" else "lowest"
    return f"{none}." if best == reference else f"{none}; {of_those}the {most} is {best}: {_against(line)}."


def _against(line: pd.Series) -> str:
    """Return ``+1.83 points over Baseline [+0.41, +3.25], 3 seeds``."""
    over = "over" if line["better_if"] == "more" else "against"
    note = "" if line["better_if"] == "more" else " (less is better)"
    seeds = f"{line['pairs']} seed{'s' if line['pairs'] != 1 else ''}"
    between = interval(line["low"], line["high"], digits(line))
    return f"{difference_of(line)} {over} {line['reference']}{note}{' ' if between else ''}{between}, {seeds}"


def _others(finished: pd.DataFrame, best: str | None) -> str:
    """Name the other rows that are clearly better and those clearly worse, the most different first."""
    gains = gain(finished)
    better = finished[finished["marked"] & (finished["row"] != best)]
    worse = finished[finished["marked_worse"]]
    said = []
    for word, lines, falling in (("also clearly better", better, True), ("clearly worse", worse, False)):
        if len(lines):
            order = gains[lines.index].sort_values(ascending=not falling, kind="stable").index
            said.append(f"{word}: {_named([_with_difference(_line(lines, row)) for row in order])}")
    note = "" if (finished["better_if"] == "more").all() else " (less is better)"
    return f"{sentence('; '.join(said))}{note}." if said else ""


def _line(table: pd.DataFrame, row: str) -> pd.Series:
    return table[table["row"] == row].iloc[0]


def _with_difference(line: pd.Series) -> str:
    return f"{line['row']} ({difference_of(line)} {interval(line['low'], line['high'], digits(line))})"


def _named(texts: list[str]) -> str:
    rest = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _advice(finished: pd.DataFrame, best: str | None) -> str:
    """Return what to take by cost; nothing where no interval could be taken, or times are not known."""
    if best is None or finished["low"].isna().all():
        return ""
    cheapest = cheapest_within_noise(finished)
    reference = finished["reference"].iloc[0]
    ratios = dict(zip(finished["row"], finished["training_ratio"].astype(float), strict=True))
    if cheapest is None or isnan(ratios[best]):
        return ""
    takes = {row: f"{ratios[row]:.1f}×" for row in (cheapest, best)}
    if cheapest != best:
        time = "" if cheapest == reference else f" at {takes[cheapest]} the training time of {reference}"
        beyond = f"{best} takes {takes[best]}" + (" its training time" if cheapest == reference else "")
        return f"By cost: {cheapest} is within noise of the best{time}; {beyond}."
    if best == reference:
        return ""
    cost = f"{takes[best]} the training time of {reference}"
    return f"By cost: {best} takes {cost}, and no row within noise of it is much cheaper."
