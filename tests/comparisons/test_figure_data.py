"""The numbers behind a comparison's figures, from folders of finished runs."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classmates.comparisons import figure_data
from classmates.comparisons.differences import setting_differences
from classmates.comparisons.figure_data import Member, read_members
from classmates.comparisons.recipe import Recipe
from classmates.comparisons.tables import comparison_table
from classmates.comparisons.tables import finished_runs as with_scores


@pytest.fixture
def members(finished_runs: pd.DataFrame, recipe: Recipe) -> list[Member]:
    return read_members(finished_runs, list(recipe.rows))[0]


@pytest.fixture
def table(finished_runs: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    return comparison_table(finished_runs, recipe)


def test_members_are_in_the_rows_order_and_damage_is_told(
    tmp_path: Path, finished_runs: pd.DataFrame, recipe: Recipe
) -> None:
    folder = shutil.copytree(finished_runs["folder"].iloc[0], tmp_path / "run")
    (folder / "evaluation.npz").write_bytes(b"cut off")
    two_models = pd.concat([finished_runs, finished_runs.assign(model="a")])
    damaged = finished_runs.assign(folder=[str(folder), *finished_runs["folder"].iloc[1:]])
    members, problems = read_members(damaged, list(recipe.rows))
    assert [one.model for one in read_members(two_models, list(recipe.rows))[0]] == ["tiny"] * 12 + ["a"] * 12
    assert [(one.row, one.seed) for one in members][:3] == [("Baseline", 1), ("Baseline", 2), ("DML", 0)]
    assert len(members) == 11
    assert len(problems) == 1
    assert str(folder / "evaluation.npz") in problems[0]


def test_learning_curves_are_means_over_seeds(members: list[Member]) -> None:
    frame = figure_data.learning_curves(members)
    first = frame[frame["row"] == "DML"]
    assert first["epoch"].tolist() == [1, 2, 3]
    assert first["mean"].tolist() == pytest.approx([21, 41, 61])
    assert first["std"].tolist() == pytest.approx([1, 1, 1])
    assert set(first["seeds"]) == {3}
    without = [replace(one.run, metrics=one.run.metrics[["epoch"]]) for one in members]
    assert figure_data.learning_curves(
        [one._replace(run=run) for one, run in zip(members, without, strict=True)]
    ).empty


def test_accuracy_against_time(finished_runs: pd.DataFrame, recipe: Recipe, table: pd.DataFrame) -> None:
    frame = figure_data.accuracy_against_time(with_scores(finished_runs, recipe)).set_index("row")
    assert frame["minutes"].tolist() == pytest.approx([31 / 60] * 4)
    assert frame.loc["MCL", "minutes_std"] == pytest.approx(1 / 60)
    assert frame.loc["MCL", "mean"] == pytest.approx(table.set_index("row").loc["MCL", "mean"])


def test_ablation_leaves_out_the_reference(table: pd.DataFrame) -> None:
    frame = figure_data.ablation(table).set_index("row")
    assert frame.index.tolist() == ["DML", "MCL", "beta_0.2 & more"]
    assert frame.loc["MCL", "published_difference"] == pytest.approx(4.5)
    assert np.isnan(frame.loc["DML", "published_difference"])
    assert frame["clear"].tolist() == ["", "better", "better"]
    assert frame.loc["MCL", "difference"] == table.set_index("row").loc["MCL", "difference"]


def test_calibration_is_of_all_seeds_together(members: list[Member]) -> None:
    frame = figure_data.calibration(members)
    mcl = frame[frame["row"] == "MCL"]
    assert mcl["images"].sum() == 3 * 200
    right = sum((one.run.evaluation.logits.argmax(1) == one.run.evaluation.labels).sum() for one in members[6:9])
    assert (mcl["images"] * mcl["accuracy"].fillna(0)).sum() == pytest.approx(right)


def test_sensitivity_finds_the_setting_that_varies(table: pd.DataFrame, members: list[Member]) -> None:
    frame = figure_data.sensitivity(table, members)
    line = frame[frame["setting"] == "beta"]
    assert line["value"].tolist() == [0.1, 0.2]
    assert line["row"].tolist() == ["MCL", "beta_0.2 & more"]
    assert line["mean"].tolist() == pytest.approx(table["mean"].tolist()[2:])
    assert set(frame["setting"]) == {"beta", ""}
    assert frame.loc[frame["setting"] == "", "row"].tolist() == ["Baseline", "DML"]
    assert figure_data.sensitivity(table, [one for one in members if one.row != "MCL"]).empty


def test_a_row_that_differs_in_two_settings_is_on_no_line(table: pd.DataFrame, members: list[Member]) -> None:
    """Four rows of MCL: the usual one, one with another beta, one with another lr, one with both others."""
    options = {"Baseline": (0.1, 0.05), "DML": (0.1, 0.2), "MCL": (0.1, 0.05), "beta_0.2 & more": (0.3, 0.2)}
    changed = []
    for one in members:
        beta, lr = options[one.row]
        method = {"class_path": "classmates.MCL", "init_args": {"beta": beta}}
        changed.append(one._replace(run=replace(one.run, settings={"method": method, "lr": lr, "seed": one.seed})))
    frame = figure_data.sensitivity(table, changed)
    assert "beta_0.2 & more" not in set(frame["row"])
    assert set(frame["setting"]) == {"lr"}


def test_tsne_has_a_layout_a_row_and_numbers_of_all_seeds(members: list[Member]) -> None:
    points, numbers = figure_data.tsne(members[:6])
    assert points.groupby(["row", "stage"]).size().tolist() == [30] * 4
    assert set(points["seed"]) == {0}
    assert set(numbers["seeds"]) == {3}
    embedding = numbers[(numbers["row"] == "DML") & (numbers["stage"] == "embedding")].iloc[0]
    drawn = numbers[(numbers["row"] == "DML") & (numbers["stage"] == "stage1")].iloc[0]
    assert 0 <= drawn["purity"] < embedding["purity"] <= 1
    assert drawn["silhouette"] < embedding["silhouette"]


def test_settings_that_are_equal_are_said_once(members: list[Member]) -> None:
    equal, different = setting_differences((member.row, member.run.settings) for member in members)
    assert equal == {"epochs": "3", "optimizer_args.momentum": "0.9"}
    assert different["MCL"] == {"method": "MCL(peers=2, beta=0.1, negatives=all)", "lr": "0.05"}
    assert different["Baseline"] == {"method": "Baseline()", "lr": "0.1"}
    row, settings = members[0].row, members[0].run.settings
    equal, different = setting_differences([(row, settings), (row, {**settings, "lr": 0.2, "width": 3})])
    assert "lr" not in equal  # the row's own runs differ
    assert different == {"Baseline": {"method": "Baseline()", "lr": "0.1 / 0.2"}}
