"""The figures of a comparison say what their numbers are, whatever metric its table is of."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from classmates.comparisons.drawings import Material, draw
from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.tables import comparison_table, finished_runs


@pytest.mark.parametrize(
    ("score", "unit"),
    [
        (ScoreChoice(), "points"),
        (ScoreChoice(as_="error"), "points"),
        (ScoreChoice(metric="ece"), "points"),
        (ScoreChoice(metric="nll"), "student NLL"),
    ],
)
def test_differences_are_in_points_of_shares_alone(
    recipe: Recipe, frame_of: Callable[..., pd.DataFrame], score: ScoreChoice, unit: str
) -> None:
    cells = [(row, seed) for row in ("Baseline", "MCL") for seed in (0, 1)]
    lines = [{"row": row, "seed": seed, "student": 0.5 + 0.1 * (row == "MCL") + 0.01 * seed} for row, seed in cells]
    runs = frame_of([{**line, "nll": 1 - line["student"], "ece": 0.1 * line["student"]} for line in lines])
    wanted = replace(recipe, score=score, published={}, rows={"Baseline": {}, "MCL": {}})
    material = Material(comparison_table(runs, wanted), finished_runs(runs, wanted), [], [*wanted.rows])
    (ablation, by_time), _ = draw(["ablation", "accuracy_against_time"], material)
    assert ablation.figure.axes[0].get_xlabel() == f"{unit} beyond Baseline"
    assert f"in {unit}, paired" in ablation.caption
    assert ("points" in f"{ablation.caption} {by_time.caption}") == (unit == "points")
