"""Differences between rows over seeds and over what both were judged on one by one, such as episodes."""

from __future__ import annotations

from contextlib import suppress
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classmates.comparisons.statistics import image_difference
from classmates.errors import UserError
from classmates.runs.reading import read_outcomes
from classmates.tasks.protocol import ProtocolRecord

Outcomes = dict[int, tuple[str, NDArray[np.float64]]]
"""By seed: the hash of what a student was judged on, and its outcomes."""
COLUMNS = ["outcomes", "outcome_low", "outcome_high"]


def outcome_intervals(table: pd.DataFrame, finished: pd.DataFrame) -> pd.DataFrame:
    """Return for each line how many outcomes both it and the reference have, and the interval of their difference.

    The interval is that of :func:`classmates.comparisons.statistics.image_difference`, over seeds and outcomes. NaN
    where runs keep no outcomes, were judged on different ones, or the table is of another network or metric.

    table: as ``comparison_table`` makes it. finished: the finished runs, with their folders.
    """
    lines = []
    every = table.to_dict("records")
    whose = {(line["row"], line["model"], line["data"]): line["who"] for line in every}
    for line in every:
        protocol = line["protocol"]
        kept = isinstance(protocol, ProtocolRecord) and protocol.outcomes and line["metric"] == protocol.headline
        mine: Outcomes = {}
        other: Outcomes = {}
        of_both = {line["who"], whose.get((line["reference"], line["model"], line["data"]))}
        if kept and of_both == {"student"} and line["row"] != line["reference"]:
            here = finished[(finished["model"] == line["model"]) & (finished["data"] == line["data"])]
            mine, other = (by_seed(here[here["row"] == line[which]]) for which in ("row", "reference"))
        lines.append(_compare(mine, other, 1 if line["scale"] == "accuracy" else -1))
    return pd.DataFrame(lines, columns=COLUMNS, index=table.index)


def by_seed(runs: pd.DataFrame) -> Outcomes:
    """Return by seed the hash of what the students of these runs were judged on, and their outcomes.

    Runs whose files are damaged are left out; the report of the comparison names them.
    """
    found: Outcomes = {}
    for run in runs.to_dict("records"):
        with suppress(UserError):
            found[int(run["seed"])] = read_outcomes(Path(run["folder"]))
    return found


def _compare(mine: Outcomes, other: Outcomes, sign: int) -> tuple[float, float, float]:
    seeds = [seed for seed in mine if seed in other]
    hashes = {one[seed][0] for one in (mine, other) for seed in seeds}
    if len(hashes) != 1:  # no seed in common, or not the same episodes
        return nan, nan, nan
    values, reference = (np.stack([one[seed][1] for seed in seeds]) for one in (mine, other))
    found = image_difference(values, reference)
    low, high = sorted(100 * sign * end for end in (found.low, found.high))
    return values.shape[1], low, high
