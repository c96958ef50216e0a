"""What a comparison leaves on the disk, and what its page says in a browser."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import classmates
from classmates.comparisons import recipe as recipes
from classmates.comparisons.drawings import FIGURES, USUAL
from classmates.comparisons.page import as_text, comparison_table, write_comparison
from classmates.comparisons.recipe import Recipe
from classmates.comparisons.runs import figures
from classmates.errors import UserError
from classmates.experiments.ledger import Ledger
from classmates.experiments.records import read_runs
from classmates.runs.record import Kept, RunRecord

Frame = Callable[..., pd.DataFrame]


def text_of(page: Path) -> str:
    """What a reader of the page sees, without its figures."""
    text = re.sub(r"<(svg|style)\b.*?</\1>", " ", page.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


@pytest.fixture(scope="module")
def runs(finished_runs: pd.DataFrame, frame_of: Frame) -> pd.DataFrame:
    """Twelve finished runs, one that failed and one of other code."""
    others = [
        {"row": "MCL", "seed": 3, "status": "failed", "failure": "NonFiniteLoss: <contrast> is nan"},
        {"row": "MCL", "seed": 0, "status": "other version", "student": 0.1},
    ]
    return pd.concat([finished_runs, frame_of(others)], ignore_index=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, runs: pd.DataFrame) -> Path:
    """A comparison's folder with all that is written into it."""
    folder = tmp_path_factory.mktemp("written")
    run = shutil.copytree(runs["folder"].iloc[0], folder / "runs" / "Baseline-0")
    (run / "report.html").write_text("its own report")
    (folder / "jobs").mkdir()
    (folder / "jobs" / "Baseline-0.log").write_text("what it printed")
    write_comparison(folder, recipe, runs.assign(folder=[str(run), *runs["folder"].iloc[1:]]))
    return folder


def test_a_run_leads_to_those_of_its_files_that_are_there(written: Path, runs: pd.DataFrame) -> None:
    text = (written / "report.html").read_text("utf-8")
    ways = {name: f"runs/Baseline-0/{file}" for name, file in
            {"report": "report.html", "settings": "config.yaml", "result": "result.json"}.items()}  # fmt: skip
    for name, way in {**ways, "log": "jobs/Baseline-0.log"}.items():
        assert f'<a href="{way}">{name}</a>' in text
    elsewhere = re.findall(r'<a href="([^"]*)">(report|settings|result|log)</a>', text)
    assert sorted(name for _, name in elsewhere) == ["log", "report", *["result"] * 12, *["settings"] * 12]
    assert all((written / unescape(way)).is_file() for way, _ in elsewhere)


def test_every_table_and_figure_is_written(written: Path, recipe: Recipe, runs: pd.DataFrame) -> None:
    assert {path.name for path in written.iterdir()} == {
        *("table.md", "table.tex", "table.csv", "runs.csv", "report.html", "figures", "runs", "jobs"),
    }
    figures = {path.name for path in (written / "figures").iterdir()}
    assert figures == {f"{name}.{kind}" for name in USUAL for kind in ("svg", "png", "csv")}
    table = pd.read_csv(written / "table.csv")
    assert table["mean"].tolist() == pytest.approx(comparison_table(runs, recipe)["mean"].tolist())
    lines = pd.read_csv(written / "runs.csv")
    assert len(lines) == 14
    assert [Path(place).is_absolute() for place in lines["folder"]] == [False] * 14
    assert (written / lines["folder"][0]).is_dir()
    png = np.asarray(Image.open(written / "figures/ablation.png").convert("RGB"))
    assert (png[0, 0] == 255).all()
    svg = (written / "figures/ablation.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in svg
    assert "currentColor" in svg


def test_the_page_says_what_came_out(written: Path, recipe: Recipe, runs: pd.DataFrame) -> None:
    text = text_of(written / "report.html")
    table = comparison_table(runs, recipe).set_index("row")
    mcl = table.loc["MCL"]
    for expected in (
        "A comparison of <four> rows",
        "Runs: 12 done, 1 failed, 1 other version.",
        f"MCL: +{mcl['difference']:.2f} points over Baseline [+{mcl['low']:.2f}, ",
        "Also clearly better: beta_0.2 & more (",
        f"MCL 3 ▲ {mcl['mean']:.2f} ± {mcl['std']:.2f}",
        "also after Holm’s correction for 3 comparisons",
        "70.00 ± 0.50",
        "after the correction 2 better and 0 worse",
        "NonFiniteLoss: <contrast> is nan",
        "Left out of every table and figure: 1 finished run of other version",
        "MCL(peers=2, beta=0.2, negatives=all)",
        "Published values: A paper, Table 1.",
        "What 12 runs were made with",
        "One & only.",
    ):
        assert expected in text, expected
    assert not re.search(r"\d+ of \d+", text[: text.index("Results")])
    page = (written / "report.html").read_text("utf-8")
    assert page.count('class="number better"') == int(table["marked"].sum())
    assert page.count('<tr class="reference">') == 2
    assert "<four>" not in page
    assert 'href="runs/Baseline-0/report.html"' in page
    assert "<script" not in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({}, "the last epoch, mean"),
        ({"Baseline": "best", "MCL": "best"}, "the epoch that was best on validation images, mean"),
        ({"MCL": "best"}, "the last epoch (Baseline) or the epoch that was best on validation images (MCL), mean"),
    ],
)
def test_the_page_says_of_which_epoch_the_scores_are(
    tmp_path: Path, recipe: Recipe, runs: pd.DataFrame, kept: dict[str, Kept], said: str
) -> None:
    some = runs[(runs["status"] == "done") & runs["row"].isin(["Baseline", "MCL"])]
    records = [RunRecord.from_json((Path(run.folder) / "result.json").read_text()) for run in some.itertuples()]
    found = [figures(replace(record, kept=kept.get(record.method, "last")))["kept"] for record in records]
    write_comparison(tmp_path, replace(recipe, figures=("ablation",)), some.assign(kept=found))
    assert f"On test images, after {said} over seeds." in text_of(tmp_path / "report.html")


def test_a_comparison_in_which_nothing_has_finished_has_a_page_too(
    tmp_path: Path, recipe: Recipe, runs: pd.DataFrame
) -> None:
    write_comparison(tmp_path, replace(recipe, published={}, figures=tuple(FIGURES)), runs.iloc[12:])
    text = text_of(tmp_path / "report.html")
    assert text.count("No figure") == len(FIGURES)
    assert "Nothing has finished yet." in text
    assert "No run has finished" in text
    assert not (tmp_path / "figures").exists()


def test_a_damaged_run_is_named_and_stays_in_the_tables(tmp_path: Path, recipe: Recipe, runs: pd.DataFrame) -> None:
    run = shutil.copytree(runs["folder"].iloc[0], tmp_path / "runs" / "damaged")
    (run / "metrics.csv").write_text("")
    damaged = runs.assign(folder=[str(run), *runs["folder"].iloc[1:]])
    write_comparison(tmp_path, replace(recipe, figures=("calibration",)), damaged)
    assert "In the tables, but in no figure: damaged run: cannot use" in text_of(tmp_path / "report.html")
    assert pd.read_csv(tmp_path / "table.csv")["seeds"].tolist() == [3, 3, 3, 3]


def test_sensitivity_and_features_are_drawn_where_a_recipe_asks(
    tmp_path: Path, recipe: Recipe, runs: pd.DataFrame
) -> None:
    some = runs[runs["row"].isin(["MCL", "beta_0.2 & more"])]
    write_comparison(tmp_path, replace(recipe, figures=("sensitivity", "tsne")), some)
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"sensitivity-tiny-digits", "tsne-tiny-digits", "tsne-tiny-digits-numbers"}


def test_report_writes_a_comparison_again(
    tmp_path: Path, recipe: Recipe, runs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path).write_plan(replace(recipe, figures=("calibration",)), [])
    module = import_module("classmates.experiments.report")
    monkeypatch.setattr(module, "read_runs", lambda ledger, planned: runs)
    assert classmates.report(tmp_path) == tmp_path / "report.html"
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"calibration"}
    elsewhere = classmates.report(tmp_path, out=tmp_path / "pages" / "page.html")
    assert 'href="../figures/calibration.svg"' in elsewhere.read_text("utf-8")
    with pytest.raises(UserError, match="it is a folder; give a file"):
        classmates.report(tmp_path, out=tmp_path / "pages")


def test_recipes_may_name_every_figure_there_is() -> None:
    assert set(get_args(recipes.FigureName)) == set(FIGURES)
    with pytest.raises(UserError, match=r"unknown figure in x 'tsn': did you mean 'tsne'\?"):
        recipes.read({"figures": ["tsn"]}, "x")


def test_a_comparison_of_version_1_is_read_and_written_again(version_1: Path) -> None:
    """The same means as version 0.1 wrote; each interval is that of its own run."""
    ledger = Ledger(version_1)
    recipe, jobs = ledger.read_plan()
    runs = read_runs(ledger, jobs)
    assert runs["status"].tolist() == ["done"] * 4
    table = comparison_table(runs, recipe).set_index("row")
    assert table["mean"].tolist() == pytest.approx([25.0, 100 / 3])
    assert table["ece"].tolist() == pytest.approx([6.540344, 14.820683])
    assert table.loc["DML", "ensemble"] == pytest.approx(22.916667)
    assert table.loc["DML", "one_run"] == pytest.approx(17.660746)
    classmates.report(version_1)
    assert "DML 2 33.33 ± 0.00" in text_of(version_1 / "report.html")
    assert pd.read_csv(version_1 / "runs.csv")["protocol"].tolist() == ["classification"] * 4


def test_text_is_what_the_command_prints(recipe: Recipe, runs: pd.DataFrame) -> None:
    text = as_text(comparison_table(runs, recipe))
    assert text.startswith("MCL: +")
    assert "\n\ntiny, digits\n\nmethod " in text


def test_headings_are_of_what_is_there(tmp_path: Path, recipe: Recipe, runs: pd.DataFrame) -> None:
    """Nothing failed: no heading says so; the rows of several models each have their verdict."""
    fine = runs.iloc[:12]
    write_comparison(tmp_path, replace(recipe, figures=("ablation",)), pd.concat([fine, fine.assign(model="other")]))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Failures" not in page
    assert "Left out" not in page
    text = text_of(tmp_path / "report.html")
    row = "beta_0.2 & more: "
    assert re.search(rf"tiny, digits: {row}\+.* other, digits: {row}\+", text[: text.index("Results")])


@pytest.mark.parametrize(("scheme", "paper"), [("1", (253, 253, 251)), ("0", (23, 24, 26))])
def test_a_browser_draws_the_page_in_light_and_in_dark(
    written: Path,
    tmp_path: Path,
    browse: Callable[..., CompletedProcess[str]],
    scheme: str,
    paper: tuple[int, int, int],
) -> None:
    picture = tmp_path / "page.png"
    flags = (f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}")
    shown = browse(written / "report.html", *flags)
    assert "CONSOLE" not in shown.stderr
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    np.testing.assert_array_equal(pixels[5, 5], paper)
    drawn = np.abs(pixels - paper).max(axis=2) > 60
    assert 0.02 < drawn.mean() < 0.5
    assert drawn.any(axis=1).mean() > 0.4  # all the way down, not only the first lines


def test_the_page_fits_a_phone_and_a_window(written: Path, fits: Callable[[Path], None]) -> None:
    fits(written / "report.html")
