"""The best row of a comparison, the rows that are as good for what is known, and the order of the printed rows."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

import pandas as pd

from classmates.comparisons.statistics import ROUNDING, paired_difference

LEAST_SEEDS = 3
"""The fewest seeds that can call one row as good as another, or the highest: Student's t of two leaves nearly
everything open."""
KEPT = 0.5
"""The least share of the best row's gain, if it is one, that a cheaper row has to keep, to be recommended instead."""
SAME_TIME = 1.2
"""Training times of this ratio or less are equal: machines that do other work too do not repeat them more exactly."""


def beside_published(table: pd.DataFrame) -> bool:
    """Return whether a table stands beside a paper's: its rows are then read in the paper's order."""
    return bool((table["published"] != "").any())


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines as they are printed: of each model and data set the best first, the reference in its place.

    Lines without a difference come after those with one, by their mean; those without a run last. A table beside
    published values keeps the recipe's order, which is the paper's.
    """
    if beside_published(table):
        return table
    upwards = table["mean"].where(table["better_if"] == "more", -table["mean"])
    place = table.groupby(["data", "model"], sort=False).ngroup()
    keys = pd.DataFrame({"place": place, "empty": table["seeds"] == 0, "loss": -gain(table), "mean": -upwards})
    keys = keys.reset_index(drop=True).sort_values(["place", "empty", "loss", "mean"], kind="stable")
    return table.iloc[keys.index]


def gain(table: pd.DataFrame) -> pd.Series:
    """Return by how much each line is better than the reference: above 0 is better whatever the metric.

    0 for the reference itself; NaN without a run, or without a seed that both have.
    """
    gains = table["difference"].where(table["better_if"] == "more", -table["difference"])
    return gains.mask((table["row"] == table["reference"]) & (table["seeds"] > 0), 0.0)


def best_row(part: pd.DataFrame) -> str | None:
    """Return the row of one model and data set that gains most: of those clearly better, else of those with three
    seeds or more, else of all.

    The reference where nothing gains; None where no difference can be taken.
    """
    gains = gain(part)
    several = part["pairs"] >= LEAST_SEEDS
    among = gains[part["marked"]] if part["marked"].any() else gains[several] if several.any() else gains.dropna()
    if among.empty or (part["pairs"] == 0).all():
        return None
    most = among.max()
    return str(part["reference"].iloc[0] if most <= 0 else part.loc[gains == most, "row"].iloc[0])


def distances(part: pd.DataFrame, scores: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """Compare the rows of one model and data set with the best of them, paired by seed.

    Args:
        part: its lines.
        scores: of the finished runs, by row and seed.

    Returns:
        For each line ``best`` (whether it is that row), ``to_best``, the mean difference to it, with ``to_best_low``
        to ``to_best_high`` by Student's t, and ``within_noise``: three seeds or more, and the two are equal or that
        interval holds zero. A row that shares fewer with the best is not within noise: nothing is known.
    """
    best = best_row(part)
    lines: list[dict[str, Any]] = []
    for row in part["row"]:
        is_best = row == best
        found = paired_difference(scores.get(row, {}), {} if best is None or is_best else scores.get(best, {}))
        told = abs(found.mean) > ROUNDING * 100 and not found.low <= 0 <= found.high
        lines.append(
            {
                "best": is_best,
                "to_best": 0.0 if is_best else found.mean if found.pairs else nan,
                "to_best_low": found.low,
                "to_best_high": found.high,
                "within_noise": is_best or (found.pairs >= LEAST_SEEDS and not told),
            }
        )
    return pd.DataFrame(lines, index=part.index)


def cheapest_within_noise(part: pd.DataFrame) -> str | None:
    """Return the row of the least training time among those within noise of the best; None where it is unknown.

    None too where the best has fewer than three seeds. Rows whose mean is below the reference's are none to recommend
    nor, where the reference is told apart from the best, those with less than half the best's gain: that few seeds
    cannot tell two rows apart does not make them equal. Times up to a fifth above the least are equal to it: of such
    rows the reference is taken, else the best, else the one that gains most.
    """
    gains, best = gain(part), part["best"]
    if (part.loc[best, "seeds"] < LEAST_SEEDS).any():
        return None
    gained = not part.loc[part["row"] == part["reference"], "within_noise"].any()
    least = KEPT * gains[best].sum() if gained else 0.0
    among = part[part["within_noise"] & (gains >= least) & part["training_ratio"].notna()]
    if among.empty:
        return None
    equal = among[among["training_ratio"] <= SAME_TIME * among["training_ratio"].min()]
    preferred = pd.DataFrame({"reference": equal["row"] == equal["reference"], "best": equal["best"], "gain": gains})
    order = preferred.loc[equal.index].sort_values(["reference", "best", "gain"], ascending=False, kind="stable")
    return str(equal.loc[order.index, "row"].iloc[0])
