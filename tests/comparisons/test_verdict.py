"""What a comparison amounts to, in sentences."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from classmates.comparisons.ranking import best_row, cheapest_within_noise, gain
from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.tables import comparison_table
from classmates.comparisons.verdict import as_lines, verdict, verdicts

Make = Callable[..., pd.DataFrame]


@pytest.fixture
def table_of(frame_of: Make, recipe: Recipe) -> Make:
    """Makes the table of rows, each with its top-1 by seed, in seconds of training by row, all 30 if not given."""

    def make(
        tops: dict[str, list[float]], seconds: dict[str, float] | None = None, score: ScoreChoice = recipe.score
    ) -> pd.DataFrame:
        runs = [
            {"row": row, "seed": seed, "student": top1, "seconds": (seconds or {}).get(row, 30.0)}
            for row, values in tops.items()
            for seed, top1 in enumerate(values)
        ]
        return comparison_table(
            frame_of(runs), replace(recipe, rows={row: {} for row in tops}, score=score, published={})
        )

    return make


BASE = [0.70, 0.72, 0.71]
BETTER = [0.74, 0.77, 0.77]  # +4, +5, +6
CLOSE = [0.75, 0.76, 0.75]  # to that: +1, −1, −2
WORSE = [0.60, 0.63, 0.61]  # −10, −9, −10


def test_the_best_row_is_named_with_difference_interval_and_seeds(table_of: Make) -> None:
    found = verdict(table_of({"Baseline": BASE, "MCL": BETTER, "AT": WORSE}))
    assert found.figure == "MCL: +5.00 points"
    assert found.finding == "MCL: +5.00 points over Baseline [+2.52, +7.48], 3 seeds."
    assert found.others == "Clearly worse: AT (−9.67 points [−11.10, −8.23])."
    assert str(found).startswith(f"{found.finding} {found.others}")


def test_other_rows_are_named_by_size_and_counted_when_many(table_of: Make) -> None:
    lower = {f"row {n}": [one - 0.05 * (n + 1) + 0.001 * seed for seed, one in enumerate(BASE)] for n in range(6)}
    found = verdict(table_of({"Baseline": BASE, "MCL": BETTER, **lower, "DML": [one + 0.02 for one in BETTER]}))
    assert found.finding.startswith("DML: +7.00")
    assert found.others.startswith("Also clearly better: MCL (+5.00 points")
    assert "; clearly worse: row 5 (" in found.others
    assert found.others.endswith(" and 2 more.")


def test_no_row_is_clearly_better(table_of: Make) -> None:
    found = verdict(table_of({"Baseline": BASE, "DML": [0.72, 0.71, 0.72]}))
    assert found.figure == ""
    assert found.finding.startswith("No row is clearly better than Baseline; the highest is DML: +0.67 points over")
    assert found.advice == "By cost: Baseline is within noise of the best; DML takes 1.0× its training time."
    lower = verdict(table_of({"Baseline": BASE, "AT": WORSE}))
    assert lower.finding == "No row is clearly better than Baseline."
    assert lower.others.startswith("Clearly worse: AT")
    assert lower.advice == ""


def test_of_what_is_better_when_less_the_best_row_is_the_lowest(table_of: Make) -> None:
    errors = ScoreChoice(as_="error")
    found = verdict(table_of({"Baseline": BASE, "DML": [0.72, 0.71, 0.72]}, score=errors))
    assert "; the lowest is DML: −0.67 points against Baseline (less is better)" in found.finding
    worse = verdict(table_of({"Baseline": BASE, "AT": WORSE}, score=errors))
    assert worse.others.startswith("Clearly worse: AT (+9.67 points")
    assert worse.others.endswith(" (less is better).")


def test_a_row_of_one_seed_is_not_the_highest_where_others_have_three(table_of: Make) -> None:
    rows = {"Baseline": BASE, "DML": [0.72, 0.71, 0.72], "AT": [0.74], "CC": [0.76, 0.76]}
    found = verdict(table_of(rows))
    assert found.finding.startswith(
        "No row is clearly better than Baseline; of those with 3 seeds or more the highest is DML: +0.67 points"
    )
    assert best_row(table_of({name: values[:2] for name, values in rows.items()})) == "CC"
    below = verdict(table_of({**rows, "DML": [0.69, 0.71, 0.70]}))
    assert below.finding == "No row is clearly better than Baseline."


def test_one_seed_says_nothing_and_recommends_nothing(table_of: Make) -> None:
    found = verdict(table_of({"Baseline": BASE[:1], "MCL": BETTER[:1]}))
    said = "One seed cannot say which row is better than Baseline; the highest is MCL:"
    assert found.finding == f"{said} +4.00 points over Baseline, 1 seed."
    assert (found.others, found.advice) == ("", "")


def test_without_a_reference_or_a_run(table_of: Make) -> None:
    nothing = table_of({"Baseline": [], "MCL": BETTER})
    assert verdict(nothing).finding.startswith("Nothing can be said yet: Baseline and another row need")
    assert verdict(nothing.iloc[:1]).finding == "Nothing has finished yet."


def test_the_cheapest_row_within_noise_is_recommended(table_of: Make) -> None:
    rows = {"Baseline": BASE, "MCL": BETTER, "DML": CLOSE, "AT": WORSE}
    table = table_of(rows, {"MCL": 87.0, "DML": 33.0, "AT": 3.0})
    assert table.set_index("row")["within_noise"].to_dict() == {
        "Baseline": False,
        "MCL": True,
        "DML": True,
        "AT": False,
    }
    assert cheapest_within_noise(table) == "DML"
    expected = "By cost: DML is within noise of the best at 1.1× the training time of Baseline; MCL takes 2.9×."
    assert verdict(table).advice == expected
    alone = table_of(rows, {"MCL": 87.0, "DML": 99.0})
    assert cheapest_within_noise(alone) == "MCL"
    assert verdict(alone).advice.endswith("and no row within noise of it is much cheaper.")


def test_few_seeds_make_no_row_as_good_as_the_best(table_of: Make) -> None:
    """Two seeds leave nearly everything open, and three that leave half a clear gain open do not give it away."""
    two = table_of({"Baseline": BASE[:2], "MCL": [0.74, 0.761], "DML": [0.71, 0.80]}, {"MCL": 87.0})
    assert two["within_noise"].tolist() == [False, True, False]
    assert cheapest_within_noise(two) is None
    assert verdict(two).advice == ""
    mixed = table_of({"Baseline": BASE, "MCL": BETTER, "DML": CLOSE[:2]}, {"MCL": 87.0})
    assert mixed["within_noise"].tolist() == [False, True, False]
    assert cheapest_within_noise(mixed) == "MCL"
    tops = {"Baseline": BASE, "MCL": BETTER, "less": [0.715, 0.77, 0.71]}  # less: +1.5, +5, 0
    table = table_of(tops, {"MCL": 87.0})
    assert table.set_index("row").loc["less", "within_noise"]
    assert cheapest_within_noise(table) == "MCL"
    assert cheapest_within_noise(table_of({**tops, "less": [0.724, 0.77, 0.72]}, {"MCL": 87.0})) == "less"
    assert cheapest_within_noise(table.assign(marked=False)) == "MCL"  # as after correction for many rows


def test_what_lies_below_the_reference_or_was_not_timed_is_no_recommendation(table_of: Make) -> None:
    tops = {"Baseline": BASE, "DML": [0.72, 0.71, 0.72], "low": [0.70, 0.70, 0.72]}
    table = table_of(tops, {"low": 3.0, "DML": 26.0})
    assert table["within_noise"].all()
    assert cheapest_within_noise(table) == "Baseline"  # times that hardly differ: the reference is taken
    assert cheapest_within_noise(table_of(tops, {"DML": 24.0})) == "DML"
    assert cheapest_within_noise(table.assign(training_ratio=float("nan"))) is None


def test_of_errors_less_is_better(table_of: Make) -> None:
    table = table_of({"Baseline": BASE, "MCL": BETTER, "AT": WORSE}, score=ScoreChoice(as_="error"))
    assert gain(table).tolist() == pytest.approx([0, 5, -29 / 3])
    assert best_row(table) == "MCL"
    found = verdict(table)
    assert found.finding == "MCL: −5.00 points against Baseline (less is better) [−7.48, −2.52], 3 seeds."
    assert found.others.startswith("Clearly worse: AT (+9.67 points")


def test_a_clearly_better_row_leads_before_a_higher_one(table_of: Make) -> None:
    unsteady = [0.70, 0.92, 0.80]
    table = table_of({"Baseline": BASE, "unsteady": unsteady, "MCL": BETTER})
    assert gain(table).idxmax() == 1
    assert best_row(table) == "MCL"
    assert ", 3 seeds. unsteady gains more in the mean, but not clearly: +9.67 points over" in verdict(table).finding
    assert cheapest_within_noise(table) == "MCL"  # of rows that cost the same the best is taken


def test_every_model_has_its_line(table_of: Make) -> None:
    table = table_of({"Baseline": BASE, "MCL": BETTER})
    two = pd.concat([table, table.assign(model="other")], ignore_index=True)
    assert as_lines(verdicts(table))[0].startswith("MCL: ")
    assert [line.partition(" MCL")[0] for line in as_lines(verdicts(two))] == ["tiny, digits:", "other, digits:"]
