import os
from importlib import import_module
from pathlib import Path

import pytest

from classmates.errors import UserError
from classmates.experiments.report import report
from classmates.reporting.page import duration


def test_the_report_is_written_whole_or_not_at_all(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html = import_module(
        "classmates.reporting.run_page"
    )  # by its name, as the package's `report` is also a function's
    monkeypatch.setattr(html, "render", lambda run: f"the page of {run.record.name}")
    assert report(str(run_copy)) == run_copy / "report.html"
    assert (run_copy / "report.html").read_text() == "the page of MCL-linear-digits-0"
    files = sorted(run_copy.iterdir())

    def fail(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(html, "render", lambda run: "another page")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=r"cannot write the report to .*report.html: No space left"):
        report(run_copy)
    assert (run_copy / "report.html").read_text() == "the page of MCL-linear-digits-0"
    assert sorted(run_copy.iterdir()) == files


def test_a_place_that_cannot_be_written_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is a folder; give a file"):
        report(finished_run, out=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the report to .*report.html: .*; give another file"):
        report(finished_run, out=tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("seconds", "said"), [(5.25, "5.2 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s"), (3700, "1 h 1 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
