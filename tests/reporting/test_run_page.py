"""The page: what it says, that it is safe to open, and that a browser shows it as meant."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classmates.experiments.report import report
from classmates.reporting.run_page import render
from classmates.runs.reading import read_run
from classmates.tasks.protocol import MetricFormat, ProtocolRecord
from tests.reporting.conftest import Change, Page, quick_page

FIGURES = ("headline", "validation", "losses", "confusion", "reliability", "features")


@pytest.fixture(scope="module")
def page_file(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(finished_run, out=tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text("utf-8"))


def few_samples(arrays: dict[str, Any]) -> None:
    """Without t-SNE a report takes less than a second."""
    for key in arrays:
        if key.startswith("feature"):
            arrays[key] = arrays[key][:3]


def test_the_page_says_what_came_out(page: Page, finished_run: Path) -> None:
    result = json.loads((finished_run / "result.json").read_text())
    student, ensemble = result["test"]["student"], result["test"]["ensemble"]
    top1 = student["top1"]
    with np.load(finished_run / "evaluation.npz") as arrays:
        labels, predicted = arrays["labels"], arrays["logits/student"].argmax(1)
    pairs = Counter((true, taken_for) for true, taken_for in zip(labels, predicted, strict=True) if true != taken_for)
    most = max(pairs.values())
    for expected in (
        f"{top1['value']:.2%}".replace("%", " %") + " of the 797 test images are classified correctly by the student",
        f"95 % interval: {100 * top1['low']:.2f} to {100 * top1['high']:.2f} %",
        "The test set was looked at once",
        f"The ensemble of all networks reaches {100 * ensemble['top1']['value']:.2f} %",
        "last (8) student",
        f"best ({result['validation']['best']['epoch']}) student",
        f"Expected calibration error: {100 * student['ece']['value']:.2f} %",
        "of 60 test images",
        "method.init_args.temperature 3.0",
        "max_time none",
        "Training time 41.2 s",
        "Peak memory not measured",
        "Multiply-adds of the student, one image 1,234,567",
        "A fixture of the file format",
        "one run with one seed (0)",
        "cpu two cores",
    ):
        assert expected in page.text, expected
    first = re.search(r"frequent mistakes on the test images: (\d) taken for (\d) \((\d+) of (\d+)\)", page.text)
    assert first is not None
    true, taken_for, count, total = map(int, first.groups())
    assert (count, total) == (most, (labels == true).sum())
    assert pairs[true, taken_for] == most


def test_the_page_has_every_figure_and_picture_with_a_description(page: Page) -> None:
    assert page.tags.count("svg") == len(FIGURES)
    assert page.attributes.count(("role", "img")) == len(FIGURES)
    assert sum(name == "aria-label" and len(value) > 20 for name, value in page.attributes) == len(FIGURES)
    assert page.tags.count("img") == 12
    assert sum(name == "alt" and value.startswith("Test image") for name, value in page.attributes) == 12
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_page_loads_nothing_and_runs_nothing(page_file: Path, page: Page) -> None:
    assert "script" not in page.tags
    assert "link" not in page.tags
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("data:image/png;base64,", "#")), (name, value)
        assert not name.startswith("on")
    before_addresses = re.findall(r"(.{13})https?://", page_file.read_text("utf-8"))
    assert before_addresses
    assert all(text.endswith(('xmlns="', 'xmlns:xlink="')) for text in before_addresses)
    assert not re.search(r"@import|url\((?!#)", page_file.read_text("utf-8"))


def test_names_and_paths_are_escaped(run_copy: Path, change: Change) -> None:
    """And images of two channels, which no browser shows, are said to be such."""
    attack, path = "<script>alert(1)</script>", """/home/o'brien/"my" <b>photos</b>&amp;"""
    change(run_copy / "student.json", lambda card: card.update(class_names=[attack, '"><img src=x>', *"23456789"]))

    def arrays(content: dict[str, Any]) -> None:
        few_samples(content)
        content["wrong_images"] = content["wrong_images"].repeat(2, axis=-1)

    def edit(result: dict[str, Any]) -> None:
        result |= {"data": path, "name": attack, "notes": [attack]}
        result["environment"]["commit"] = attack

    change(run_copy / "evaluation.npz", arrays)
    change(run_copy / "result.json", edit)
    quoted = run_copy.rename(run_copy.with_name("""it's "here" & <i>there"""))
    text = report(quoted).read_text("utf-8")
    page = Page(text)
    assert "<script" not in text
    assert "<i>" not in text
    assert page.tags.count("img") == 0
    assert page.text.count("Not a grey or colour image: it cannot be shown") == 12
    assert attack in page.texts
    assert any(path in text for text in page.texts)
    assert str(quoted) in page.texts


def test_what_is_missing_is_said(run_copy: Path, change: Change) -> None:
    """One network, no validation, no mistakes, many classes, no pictures, too few features, no notes."""

    def result(content: dict[str, Any]) -> None:
        content |= {"validation": None, "notes": [], "test": {"student": content["test"]["student"]}}
        content["training"] |= {"peak_memory_mib": 512.0, "epochs": 1}

    def arrays(content: dict[str, Any]) -> None:
        few_samples(content)
        content["logits/student"] = np.eye(31, dtype=np.float32)[content["labels"]]
        content["wrong_images"], content["wrong_rows"] = content["wrong_images"][:0], content["wrong_rows"][:0]

    change(run_copy / "result.json", result)
    change(run_copy / "evaluation.npz", arrays)
    change(run_copy / "student.json", lambda card: card.update(class_names=[str(n) for n in range(31)]))
    metrics = pd.read_csv(run_copy / "metrics.csv").iloc[:1]
    metrics.filter(regex="^(?!val|train)").to_csv(run_copy / "metrics.csv", index=False)
    page = Page(report(run_copy).read_text("utf-8"))
    assert page.tags.count("svg") == 1
    assert page.tags.count("img") == 0
    for expected in (
        "(top-1, after 1 epoch of training)",
        "The method trains one network",
        "There was no validation split",
        "No curve of validation scores: the run logged none, as it had no validation split",
        "No curves of the loss",
        "The student made no mistake",
        "No confusion matrix: with 31 classes",
        "There are none",
        "No t-SNE: features were stored of only 3 test images",
        "The run left no notes",
        "512 MiB",
    ):
        assert expected in page.text, expected


def test_a_run_of_version_1_has_its_page(version_1: Path) -> None:
    folder = next(version_1.glob("runs/DML*"))
    old = json.loads((folder / "result.json").read_text())["test"]
    page = Page(report(folder).read_text("utf-8"))
    low, high = old["student"]["top1_interval"]
    for expected in (
        f"{100 * old['student']['top1']:.2f} % of the 24 test images are classified correctly by the student",
        f"95 % interval: {100 * low:.2f} to {100 * high:.2f} %",
        f"Expected calibration error: {100 * old['student']['ece']:.2f} %",
        "The student’s most frequent mistakes",
    ):
        assert expected in page.text, expected
    assert page.tags.count("svg") == len(FIGURES)


def test_another_protocol_has_a_page_without_what_is_about_classes(run_copy: Path) -> None:
    """Of ranks, of which less is better, without an interval; other networks keep their place beside the student."""
    run = read_run(run_copy)
    few = replace(run.evaluation, feature_labels=run.evaluation.feature_labels[:3])
    protocol = ProtocolRecord("ranking", "nll", {"nll": MetricFormat("rank", "mean rank", better="less")}, "queries")
    page = Page(render(replace(run, record=replace(run.record, protocol=protocol), evaluation=few)))
    rank = run.record.test["student"]["nll"].value
    for expected in (
        f"{rank:.3f} is the mean rank of the student, the network that is deployed, on the 797 test queries",
        "Rank: mean rank, less is better.",
        "mean rank (lower is better)",
    ):
        assert expected in page.text, expected
    assert not re.search(r"Mistakes|Calibration|95 % interval:|NLL|top-1", page.text)
    assert page.tags.count("svg") == 3


def test_a_run_without_warnings_has_no_box(finished_run: Path) -> None:
    assert 'class="box' not in quick_page(finished_run)


def test_warnings_come_first(run_copy: Path) -> None:
    text = quick_page(run_copy, warnings=["Loss <b>rose</b>.", "Try a lower rate."])
    assert text.index('class="box warning"') < text.index('class="headline"')
    page = Page(text)
    assert "Look at this first. Loss <b>rose</b>. Try a lower rate." in page.text
    assert "the network that is deployed" in page.text


@pytest.mark.parametrize("classifies", [True, False])
def test_a_useless_student_is_not_offered(run_copy: Path, classifies: bool) -> None:
    fields: dict[str, Any] = {"useless": True, "warnings": ["No better than always saying 3."]}
    if not classifies:
        fields["protocol"] = ProtocolRecord("ranking", "nll", {"nll": MetricFormat("rank", "mean rank")}, "queries")
    page = Page(quick_page(run_copy, **fields))
    assert "This student is useless: do not deploy it. No better than always saying 3." in page.text
    assert "the student, a network that is useless as it is" in page.text
    assert "The student would be deployed, but it is useless as it is" in page.text
    assert "is what is deployed" not in page.text
    assert "the network that is deployed" not in page.text


def test_a_browser_finds_every_figure_and_nothing_to_complain_about(
    page_file: Path, browse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shown = browse(page_file, "--dump-dom")
    assert "CONSOLE" not in shown.stderr
    dom = Page(shown.stdout)
    assert dom.tags.count("svg") == len(FIGURES)
    assert dom.tags.count("img") == 12
    for prefix in FIGURES:
        assert any(name == "id" and value.startswith(f"{prefix}-") for name, value in dom.attributes), prefix


@pytest.mark.parametrize(("scheme", "paper"), [("1", (253, 253, 251)), ("0", (23, 24, 26))])
def test_a_browser_draws_the_page_in_light_and_in_dark(
    page_file: Path,
    browse: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    scheme: str,
    paper: tuple[int, int, int],
) -> None:
    flags = [f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={tmp_path / 'page.png'}"]
    shown = browse(page_file, *flags)
    assert "CONSOLE" not in shown.stderr
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert pixels.shape == (4000, 1200, 3)
    np.testing.assert_array_equal(pixels[5, 5], paper)
    drawn = np.abs(pixels - paper).max(axis=2) > 60
    assert 0.02 < drawn.mean() < 0.5
    rows = drawn.any(axis=1)
    assert rows.mean() > 0.4  # all the way down, not only the first lines


def test_the_page_fits_a_phone_and_a_window(page_file: Path, fits: Callable[[Path], None]) -> None:
    fits(page_file)
