"""What is said beside a table."""

import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.remarks import remarks
from classmates.comparisons.tables import comparison_table
from classmates.tasks.protocol import MetricFormat
from tests.fixtures.finished_comparison import PROTOCOL

Frame = Callable[..., pd.DataFrame]


@pytest.fixture
def runs(frame_of: Frame) -> pd.DataFrame:
    """DML like Baseline, MCL above it; the recipe's last row has not run."""
    tops = {"Baseline": [0.70, 0.72, 0.71], "DML": [0.71, 0.71, 0.71], "MCL": [0.74, 0.77, 0.77]}
    return frame_of(
        [
            {"row": row, "seed": seed, "student": top1, "precision": "32-true"}
            for row, values in tops.items()
            for seed, top1 in enumerate(values)
        ]
    )


def said(runs: pd.DataFrame, recipe: Recipe) -> str:
    return " ".join(remarks(comparison_table(runs, recipe)))


def test_how_much_it_is_worth(runs: pd.DataFrame, recipe: Recipe) -> None:
    text = said(runs, recipe)
    assert "±: the standard deviation over seeds" in text
    assert "clearly worse than Baseline" in text
    assert "2 comparisons with the reference were made" in text
    assert "1 better and 0 worse; after the correction 1 better and 0 worse" in text
    assert "Few seeds: with 3" in text
    assert re.search(r"uncertain by up to ± 6\.\d\d points \(95 % interval\)", text)


def test_a_score_that_is_no_share_has_no_points(runs: pd.DataFrame, recipe: Recipe) -> None:
    record = replace(PROTOCOL.record, metrics={**PROTOCOL.record.metrics, "top1": MetricFormat("score", "score")})
    text = said(runs.assign(protocol=[record] * len(runs)), recipe)
    assert re.search(r"uncertain by up to ± 0\.06\d \(95 % interval\)", text)


def test_one_seed_marks_nothing(runs: pd.DataFrame, recipe: Recipe) -> None:
    one_seed = runs[runs["seed"] == 0]
    assert not comparison_table(one_seed, recipe)["better"].any()
    text = said(one_seed, recipe)
    assert "No row is marked as better or worse" in text
    assert "One seed has no spread" in text
    assert "±: " not in text


def test_rows_of_one_seed_are_named_beside_others(runs: pd.DataFrame, recipe: Recipe) -> None:
    rows = runs["row"].unique()
    text = said(runs[(runs["seed"] == 0) | (runs["row"] != rows[-1])], recipe)
    assert f"One seed has no spread: nothing can be said yet of {rows[-1]}." in text
    assert "nothing here says which row is better" not in text
    assert "ew seeds: with " in text


def test_nothing_has_run(runs: pd.DataFrame, recipe: Recipe) -> None:
    assert "Nothing has finished yet" in said(runs.iloc[:0], recipe)


def test_lines_that_stay_empty_say_why(runs: pd.DataFrame, recipe: Recipe) -> None:
    """Those that have not run are told from those whose runs do not have the figure."""
    assert "1 of 4 lines have no finished run and stay empty." in said(runs, recipe)
    text = said(runs, replace(recipe, scores={"MCL": ScoreChoice(who="ensemble")}))
    assert "1 of 4 lines have runs without the figure of this table." in text
    assert "1 of 4 lines have no finished run and stay empty." in text


def test_rows_in_different_precisions_are_named(runs: pd.DataFrame, recipe: Recipe) -> None:
    assert "precision" not in said(runs, recipe)
    mixed = runs.assign(precision=["bf16-mixed" if row == "DML" else "32-true" for row in runs["row"]])
    expected = "tiny, digits: not all runs were trained in one precision (32-true: Baseline, MCL; bf16-mixed: DML)"
    assert expected in said(mixed, recipe)
    within = runs.assign(precision=["bf16-mixed" if seed == 1 else "32-true" for seed in runs["seed"]])
    assert "(32-true, bf16-mixed: Baseline, DML, MCL)" in said(within, recipe)
    other = mixed[mixed["row"] == "DML"].assign(model="other")
    apart = pd.concat([runs, other])
    assert "precision" not in said(apart, recipe)  # of two models, each in the one that suits it
