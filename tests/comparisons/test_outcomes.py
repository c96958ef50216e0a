"""Rows paired by seed and by episode."""

import numpy as np
import pandas as pd
import pytest

from classmates.comparisons import outcomes
from classmates.comparisons.outcomes import outcome_intervals
from classmates.comparisons.statistics import image_difference
from classmates.errors import UserError
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.few_shot import FewShot

PROTOCOL = FewShot().protocol.record
LINE = {
    "who": "student",
    "metric": "accuracy",
    "scale": "accuracy",
    "model": "m",
    "data": "d",
    "reference": "Baseline",
}


@pytest.fixture
def kept(monkeypatch):
    """The outcomes of 3 rows and 2 seeds by their folder; MCL answers easier episodes in its second seed."""
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.6, 50)
    found = {
        f"{row}{seed}": ("list", base + gain + random.normal(0, 0.02, 50))
        for row, gain in {"Baseline": 0.0, "MCL": 0.05, "DML": 0.0}.items()
        for seed in (0, 1)
    }

    def read(folder):
        if str(folder) not in found:
            raise UserError("damaged")
        return found[str(folder)]

    monkeypatch.setattr(outcomes, "read_outcomes", read)
    return found


def compared(protocol=PROTOCOL, **changes):
    rows = ("Baseline", "MCL", "DML")
    table = pd.DataFrame([{**LINE, "row": row, "protocol": protocol} for row in rows]).assign(**changes)
    finished = pd.DataFrame(
        [
            {"row": row, "model": "m", "data": "d", "seed": seed, "folder": f"{row}{seed}"}
            for row in rows
            for seed in (0, 1)
        ]
    )
    return outcome_intervals(table, finished).set_index(table["row"])


def test_the_interval_is_over_seeds_and_episodes(kept):
    found = compared()
    mine, base = (np.stack([kept[f"{row}{seed}"][1] for seed in (0, 1)]) for row in ("MCL", "Baseline"))
    expected = image_difference(mine, base)
    assert found.loc["MCL", "outcomes"] == 50
    assert found.loc["MCL", ["outcome_low", "outcome_high"]].tolist() == pytest.approx(
        [100 * expected.low, 100 * expected.high]
    )
    assert 4 < found.loc["MCL", "outcome_low"] < 5 < found.loc["MCL", "outcome_high"] < 6
    assert found.loc["DML", "outcome_low"] < 0 < found.loc["DML", "outcome_high"]
    assert found.loc["Baseline"].isna().all()
    errors = compared(scale="error")
    assert errors.loc["MCL", "outcome_high"] == pytest.approx(-found.loc["MCL", "outcome_low"])


def test_other_episodes_other_figures_and_damaged_runs_are_not_paired(kept):
    assert compared(who="ensemble").isna().all(axis=None)
    assert compared(who=["ensemble", "student", "student"]).isna().all(axis=None)  # of the reference alone
    assert compared(metric="loss").isna().all(axis=None)
    assert compared(protocol=ClassificationProtocol().record, metric="top1").isna().all(axis=None)
    del kept["MCL1"]
    assert compared().loc["MCL", "outcomes"] == 50
    kept["DML0"] = ("another list", kept["DML0"][1])
    assert compared().loc["DML"].isna().all()
