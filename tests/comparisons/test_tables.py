"""The numbers of a comparison, worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from math import isnan, sqrt

import pandas as pd
import pytest

from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.tables import comparison_table
from classmates.errors import UserError

Frame = Callable[..., pd.DataFrame]


@pytest.fixture
def runs(frame_of: Frame) -> pd.DataFrame:
    """Differences to Baseline: DML +1, −1, +0; MCL +4, +5, +6; the last row failed twice and runs once."""
    return frame_of(
        [
            *({"row": "Baseline", "seed": n, "student": top1} for n, top1 in enumerate([0.70, 0.72, 0.71])),
            *({"row": "DML", "seed": n, "student": top1, "peers": 0.6, "ensemble": 0.75, "peak_memory_mib": 150.0}
              for n, top1 in enumerate([0.71, 0.71, 0.71])),
            *({"row": "MCL", "seed": n, "student": top1, "seconds_per_step": 0.03}
              for n, top1 in enumerate([0.74, 0.77, 0.77])),
            *({"row": "beta_0.2 & more", "seed": n, "status": "failed"} for n in range(2)),
            {"row": "beta_0.2 & more", "seed": 2, "status": "running"},
        ]
    )  # fmt: skip


def test_means_differences_and_costs(runs: pd.DataFrame, recipe: Recipe) -> None:
    table = comparison_table(runs, recipe).set_index("row")
    assert table.index.tolist() == list(recipe.rows)
    mcl, dml, base = table.loc["MCL"], table.loc["DML"], table.loc["Baseline"]
    assert (mcl["seeds"], mcl["mean"], mcl["std"]) == (3, pytest.approx(76.0), pytest.approx(3**0.5))
    assert (mcl["pairs"], mcl["difference"]) == (3, pytest.approx(5.0))
    # 5 ± t(0.975, 2) · 1 / √3, t = 4.302653
    assert (mcl["low"], mcl["high"]) == (pytest.approx(2.515862), pytest.approx(7.484138))
    assert mcl["better"]
    assert not dml["better"]
    assert dml["difference"] == pytest.approx(0.0)
    assert isnan(base["difference"])
    assert mcl["p_holm"] == pytest.approx(2 * mcl["p"])
    assert mcl["seeds_needed"] == 3
    assert isnan(dml["seeds_needed"])
    assert (mcl["time_ratio"], dml["memory_ratio"], base["time_ratio"]) == (pytest.approx(3), 1.5, 1)
    assert (dml["peers"], dml["ensemble"], mcl["ece"]) == (pytest.approx(60), pytest.approx(75), pytest.approx(5))
    # Mean over the runs of half of Wilson's interval: z / (1 + z²/n) · √(p (1 − p) / n + z²/4n²)
    widths = [1.959964 / (1 + 0.0192073) * sqrt(p * (1 - p) / 200 + 2.400911e-5) for p in (0.74, 0.77, 0.77)]
    assert mcl["one_run"] == pytest.approx(100 * sum(widths) / 3, abs=1e-4)


def test_what_the_correction_leaves_is_marked(runs: pd.DataFrame, recipe: Recipe, frame_of: Frame) -> None:
    table = comparison_table(runs, recipe).set_index("row")
    assert table["marked"].tolist() == [False, False, True, False]
    # More rows that differ by chance: the interval still excludes zero, the correction takes the mark away.
    chance = [
        {"row": f"row {n}", "seed": seed, "student": top1}
        for n in range(9)
        for seed, top1 in enumerate([0.70, 0.73, 0.72])
    ]
    crowded = comparison_table(pd.concat([runs, frame_of(chance)]), recipe).set_index("row")
    assert crowded.loc["MCL", "better"]
    assert not crowded["marked"].any()


def test_what_is_worse_is_told_as_what_is_better(runs: pd.DataFrame, recipe: Recipe) -> None:
    table = comparison_table(runs, replace(recipe, reference="MCL")).set_index("row")
    base = table.loc["Baseline"]
    assert (base["worse"], base["marked_worse"], base["better"], base["marked"]) == (True, True, False, False)
    assert not table.loc["MCL", "marked_worse"]
    errors = comparison_table(runs, replace(recipe, reference="MCL", score=ScoreChoice(as_="error"))).set_index("row")
    assert errors["marked_worse"].tolist() == table["marked_worse"].tolist()


def test_rows_are_compared_with_the_best(runs: pd.DataFrame, recipe: Recipe) -> None:
    table = comparison_table(runs, recipe).set_index("row")
    assert table["best"].tolist() == [False, False, True, False]
    assert table["to_best"].tolist() == pytest.approx([-5, -5, 0, float("nan")], nan_ok=True)
    # −3, −6, −6: −5 ± t(0.975, 2) · √3 / √3
    assert table.loc["DML", "to_best_high"] == pytest.approx(-0.697347)
    assert table["within_noise"].tolist() == [False, False, True, False]


def test_published_values_stand_beside_ours(runs: pd.DataFrame, recipe: Recipe) -> None:
    table = comparison_table(runs, recipe).set_index("row")
    assert table["published"].tolist() == ["70.00 ± 0.50", "", "74.50", ""]
    assert table["beyond_published"].tolist() == pytest.approx([1.0, float("nan"), 1.5, float("nan")], nan_ok=True)


def test_what_was_not_run_is_there_and_says_so(runs: pd.DataFrame, recipe: Recipe) -> None:
    wider = replace(recipe, published={**recipe.published, "other": {"Baseline": 60.0, "Missing": 61.0}})
    table = comparison_table(runs, wider)
    assert table["note"].tolist()[:4] == ["", "", "", "2 failed, 1 running"]
    other = table[table["model"] == "other"].set_index("row")
    assert set(other["note"]) == {"not run"}
    assert other.loc["Missing", "published"] == "61.00"
    assert other["mean"].isna().all()


def test_errors_turn_the_sign(runs: pd.DataFrame, recipe: Recipe) -> None:
    table = comparison_table(runs, replace(recipe, score=ScoreChoice(as_="error"))).set_index("row")
    mcl = table.loc["MCL"]
    assert (mcl["mean"], mcl["difference"]) == (pytest.approx(24.0), pytest.approx(-5.0))
    assert mcl["better"]
    assert table.loc["DML", "peers"] == pytest.approx(40.0)


def test_a_row_may_be_scored_by_its_ensemble(runs: pd.DataFrame, recipe: Recipe) -> None:
    scores = {"DML": ScoreChoice(who="ensemble"), "MCL": ScoreChoice(who="ensemble")}
    table = comparison_table(runs, replace(recipe, scores=scores)).set_index("row")
    assert table.loc["DML", "mean"] == pytest.approx(75.0)
    assert (table.loc["MCL", "seeds"], table.loc["MCL", "note"]) == (0, "has no ensemble")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ScoreChoice(as_="error"), "'MCL' has the top1 error and Baseline the top1, so that they do not compare"),
        (ScoreChoice(metric="nll"), "'MCL' has the nll and Baseline the top1, so that they do not compare"),
    ],
)
def test_a_row_with_another_figure_than_the_reference_is_refused(runs, recipe, other, words) -> None:
    with pytest.raises(UserError, match=words):
        comparison_table(runs, replace(recipe, scores={"MCL": other}))
    same = replace(recipe, score=other, scores={"MCL": other})
    assert comparison_table(runs.assign(nll=0.5), same)["better_if"].unique().tolist() == ["less"]


def test_any_metric_of_the_runs_may_stand_in_the_table(runs: pd.DataFrame, recipe: Recipe) -> None:
    """Less of a likelihood's negative logarithm is better, and it is no share."""
    likelihood = runs.assign(
        nll=[{"MCL": 0.4, "DML": 0.6}.get(row, 0.5) + 0.01 * n for n, row in enumerate(runs["row"])]
    )
    table = comparison_table(likelihood, replace(recipe, score=ScoreChoice(metric="nll"))).set_index("row")
    assert table.loc["Baseline", "mean"] == pytest.approx(0.51)
    assert table.loc["MCL", "difference"] == pytest.approx(-0.04)
    assert (table.loc["MCL", "metric"], table.loc["MCL", "better_if"]) == ("nll", "less")
    assert table["one_run"].isna().all()
    named = comparison_table(runs, replace(recipe, score=ScoreChoice(metric="top1")))
    pd.testing.assert_frame_equal(named, comparison_table(runs, recipe))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (ScoreChoice(metric="top2"), "unknown metric of the table 'top2': did you mean 'top"),
        (ScoreChoice(metric="nll", who="ensemble"), "other than top1 there are only the student's"),
        (ScoreChoice(metric="nll", as_="error"), "negative log-likelihood as: error, but it is no accuracy"),
        (ScoreChoice(metric="ece", as_="error"), "it is no accuracy"),
    ],
)
def test_figures_that_runs_do_not_have(runs: pd.DataFrame, recipe: Recipe, choice: ScoreChoice, message: str) -> None:
    with pytest.raises(UserError, match=message):
        comparison_table(runs, replace(recipe, score=choice))


def test_runs_judged_in_different_ways_are_in_no_table(runs: pd.DataFrame, recipe: Recipe, frame_of: Frame) -> None:
    other = replace(runs["protocol"].iloc[0], name="few_shot")
    mixed = pd.concat([runs, frame_of([{"row": "MCL", "seed": 3, "student": 0.7, "protocol": other}])])
    with pytest.raises(UserError, match=r"different protocols, classification \(top1\) and few_shot \(top1\)"):
        comparison_table(mixed, recipe)


def test_runs_judged_with_other_settings_are_in_no_table(runs: pd.DataFrame, recipe: Recipe, frame_of: Frame) -> None:
    """Such as episodes of one image a class and of five."""
    one, five = (replace(runs["protocol"].iloc[0], settings={"shot": shot}) for shot in (1, 5))
    of_one = runs.assign(protocol=one)
    mixed = pd.concat([of_one, frame_of([{"row": "MCL", "seed": 3, "student": 0.7, "protocol": five}])])
    with pytest.raises(UserError, match=r"with different settings, {'shot': 1} and {'shot': 5}: compare"):
        comparison_table(mixed, recipe)
    assert comparison_table(of_one, recipe)["protocol"].tolist() == [one] * len(recipe.rows)


def test_runs_of_other_code_are_no_part_of_it(runs: pd.DataFrame, recipe: Recipe, frame_of: Frame) -> None:
    other = frame_of([{"row": "MCL", "seed": 5, "student": 0.1, "status": "other version"}])
    table = comparison_table(pd.concat([runs, other]), recipe).set_index("row")
    assert table.loc["MCL", "mean"] == pytest.approx(76.0)
    assert table.loc["MCL", "note"] == "1 other version"


def test_runs_of_another_comparison_in_the_folder_have_no_line(
    runs: pd.DataFrame, recipe: Recipe, frame_of: Frame
) -> None:
    others = frame_of(
        [
            {"row": "KD", "seed": 0, "student": 0.9, "status": "other settings"},
            {"row": "MCL", "seed": 0, "student": 0.9, "status": "other settings", "model": "large"},
        ]
    )
    table = comparison_table(pd.concat([runs, others]), recipe)
    assert table["row"].tolist() == list(recipe.rows)
    assert set(table["model"]) == {"tiny"}


def test_a_line_says_in_which_precision_its_runs_were_trained(runs: pd.DataFrame, recipe: Recipe) -> None:
    words = runs.assign(precision=["32-true" if seed else "bf16-mixed" for seed in runs["seed"]])
    table = comparison_table(words, recipe).set_index("row")
    assert table.loc["MCL", "precision"] == "32-true, bf16-mixed"
    assert table.loc["beta_0.2 & more", "precision"] == ""


def test_nothing_run_is_a_table_too(runs: pd.DataFrame, recipe: Recipe) -> None:
    assert comparison_table(runs.iloc[:0], recipe)["seeds"].tolist() == [0, 0, 0, 0]
