"""The page that helps to choose a method says what the evidence says, and has a place for each comparison."""

import pandas as pd
import pytest

from classmates._files import recipes_folder
from classmates.experiments.ledger import Ledger
from results.which_method import EVIDENCE, PAGE, difference, section, without_cost

RECIPES = sorted(file.stem for file in (recipes_folder() / "evidence").glob("*.yaml"))
LEDGERS = sorted(jobs.parent.name for jobs in EVIDENCE.glob("*/jobs"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_comparison_stands_on_the_page_as_it_came_out(name: str) -> None:
    """After a new result: python -m results.which_method."""
    page = PAGE.read_text(encoding="utf-8")
    assert f"<!-- {name} -->" in page
    if (EVIDENCE / name / "table.csv").exists():
        assert section(EVIDENCE / name) in page
    else:
        assert f"Not finished: `recipes/evidence/{name}.yaml`." in page


@pytest.mark.parametrize("name", LEDGERS)
def test_a_ledger_that_is_kept_can_be_gone_on_with(name: str) -> None:
    ledger = Ledger(EVIDENCE / name)
    _, jobs = ledger.read_plan()  # every run that is planned has its file
    assert any(ledger.result(job) for job in jobs)


@pytest.mark.parametrize(
    ("marks", "written"),
    [
        ({}, "−1.50 [−3.00, +0.00]"),
        ({"marked": True}, "▲ −1.50 [−3.00, +0.00]"),
        ({"marked_worse": True}, "▼ −1.50 [−3.00, +0.00]"),
        ({"low": float("nan"), "high": float("nan")}, "−1.50"),
        ({"difference": float("nan")}, ""),
        ({"difference": float("nan"), "row": "Baseline"}, "reference"),
    ],
)
def test_only_what_outlasts_the_correction_is_marked(marks: dict[str, object], written: str) -> None:
    row = {"row": "MCL", "reference": "Baseline", "difference": -1.5, "low": -3.0, "high": 0.0}
    row |= {"marked": False, "marked_worse": False, **marks}
    assert difference(next(pd.DataFrame([row]).itertuples())) == written


@pytest.mark.parametrize(("rough", "left"), [(["CutMix"], False), (["MCL"], False), (["DML"], True), ([], True)])
def test_a_verdict_names_no_cost_of_a_row_whose_time_does_not_compare(rough, left) -> None:
    cost = " By cost: CutMix is within noise of the best at 1.7× the training time of Baseline; MCL takes 2.0×."
    assert without_cost(f"**MCL: +2.5 points.{cost}**", rough) == f"**MCL: +2.5 points.{cost if left else ''}**"
