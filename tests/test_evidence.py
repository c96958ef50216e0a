"""The scripts that compare rows of published comparisons."""

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from results.evidence import transferred
from results.evidence.paired import interval
from results.evidence.paired import main as paired
from results.evidence.worse_photos import main as worse_photos

ACCURACIES = {"Baseline": [80.0, 82.0, 84.0], "MCL": [83.0, 84.0, 88.0]}


def test_the_interval_is_that_of_students_t() -> None:
    differences = pd.Series([3.0, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, 3.0, 1 / 3**0.5)
    assert interval(differences) == pytest.approx((3.0, low, high))


def test_two_rows_are_compared_seed_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    paired("photos-128", "MCL", "photos-128", "LabelSmoothing")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("MCL − LabelSmoothing: +1.36 points [+0.29, +2.42], 3 seeds")
    assert said[1].startswith("by seed: ")
    with pytest.raises(SystemExit, match="no finished run of 'KD'; rows: "):
        paired("photos-128", "MCL", "photos-128", "KD")


def test_what_worse_photos_cost_each_row(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that are scored already: of the images as they are, and 10 and 30 points less by two severities."""
    runs, scored = [], []
    for row, values in ACCURACIES.items():
        for seed, value in enumerate(values):
            runs.append({"row": row, "seed": seed, "status": "done", "folder": "nowhere"})
            for corruption, severity, lost in (("as they are", 0, 0), ("jpeg", 1, 10), ("jpeg", 2, 30)):
                accuracy = value - lost
                scored.append(
                    {"row": row, "seed": seed, "corruption": corruption, "severity": severity, "accuracy": accuracy}
                )
    pd.DataFrame(runs).to_csv(tmp_path / "runs.csv", index=False)
    pd.DataFrame(scored).to_csv(tmp_path / "corruptions.csv", index=False)
    worse_photos(tmp_path, "Baseline")
    baseline, mcl = capsys.readouterr().out.strip().split("\n\n")
    assert [line.split() for line in baseline.splitlines()[1:]] == [
        ["as", "they", "are", "82.00"],
        ["jpeg", "62.00"],
        ["all", "corruptions", "62.00"],
    ]
    low, high = stats.t.interval(0.95, 2, 3.0, 1 / 3**0.5)
    assert mcl.splitlines()[0] == "MCL, 3 seeds, less Baseline"
    assert mcl.splitlines()[2].split() == ["jpeg", "65.00", "+3.00", f"[{low:+.2f},", f"{high:+.2f}]"]
    with pytest.raises(SystemExit, match="no row is called 'KD'; there are: Baseline, MCL"):
        worse_photos(tmp_path, "KD")


def test_how_features_of_rows_transfer(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that are scored already, of which those without a student are named where they are not."""
    monkeypatch.setattr(transferred, "TABLE", tmp_path / "transferred.csv")
    scored = [
        {"row": row, "seed": seed, "linear": value, "nearest": value - 10, "C": 0.01}
        for row, values in ACCURACIES.items()
        for seed, value in enumerate(values)
    ]
    pd.DataFrame(scored).to_csv(tmp_path / "transferred.csv", index=False)
    runs = [
        {"row": row, "seed": seed, "status": "done", "folder": "runs/it"} for row in ("MCL", "KD") for seed in (0, 1)
    ]
    pd.DataFrame(runs).to_csv(tmp_path / "runs.csv", index=False)
    transferred.main("nowhere", "Baseline", str(tmp_path))
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"{tmp_path}/runs/it has no student any more: left out"] * 2
    baseline, mcl = said.out.strip().split("\n\n")
    low, high = stats.t.interval(0.95, 2, 3.0, 1 / 3**0.5)
    assert [line.split() for line in baseline.splitlines()[1:]] == [["linear", "82.00"], ["nearest", "72.00"]]
    assert mcl.splitlines()[0] == "MCL, 3 seeds, less Baseline"
    assert mcl.splitlines()[2].split() == ["nearest", "75.00", "+3.00", f"[{low:+.2f},", f"{high:+.2f}]"]
    with pytest.raises(SystemExit, match="no row is called 'KD'; there are: Baseline, MCL"):
        transferred.main("nowhere", "KD", str(tmp_path))


def test_every_comparison_is_listed_with_its_table():
    results = Path(__file__).parent.parent / "results"
    listed = (results / "README.md").read_text(encoding="utf-8")
    tables = [path.relative_to(results).as_posix() for path in results.glob("evidence/*/table.md")]
    assert tables
    assert [table for table in tables if f"]({table})" not in listed] == []
