"""The scripts that compare rows of published comparisons."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

import classmates
from classmates.evaluation.scores import StudentScores
from classmates.evaluation.transfer import TransferScores
from classmates.reporting.theme import BLUE, INK, VERMILION
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.protocol import Metric, Scores
from results.evidence import chart, transferred
from results.evidence.paired import interval
from results.evidence.paired import main as paired
from results.evidence.worse_photos import main as worse_photos
from results.evidence.worse_photos import scored as scored_on_worse_photos

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


def scores_of(top1: float) -> Scores:
    """Scores of which the accuracy is told from the others."""
    return {"top5": Metric(0.99), "top1": Metric(top1), "nll": Metric(1.5, better="less")}


def write_runs(folder: Path) -> None:
    """Two finished runs of a row and one that failed."""
    runs = [
        {"row": "MCL", "seed": seed, "status": status, "folder": f"runs/MCL-{seed}"}
        for seed, status in enumerate(("done", "done", "failed"))
    ]
    pd.DataFrame(runs).to_csv(folder / "runs.csv", index=False)


def test_a_finished_run_is_scored_on_worse_photos_once(tmp_path, monkeypatch) -> None:
    """Severities count from one, accuracies are in percent, and a run that is in the table stays as it is."""
    asked = []

    def evaluate(run, **options):
        asked.append((run, options))
        worse = {"jpeg": [scores_of(0.7), scores_of(0.5)], "darkness": [scores_of(0.65), scores_of(0.412345)]}
        return StudentScores(scores_of(0.8), ClassificationProtocol().record, corruptions=worse)

    monkeypatch.setattr(classmates, "evaluate", evaluate)
    write_runs(tmp_path)
    known = ["MCL", 0, "as they are", 0, 12.5]
    columns = ["row", "seed", "corruption", "severity", "accuracy"]
    pd.DataFrame([known], columns=columns).to_csv(tmp_path / "corruptions.csv", index=False)
    expected = [
        known,
        ["MCL", 1, "as they are", 0, 80.0],
        ["MCL", 1, "jpeg", 1, 70.0],
        ["MCL", 1, "jpeg", 2, 50.0],
        ["MCL", 1, "darkness", 1, 65.0],
        ["MCL", 1, "darkness", 2, 41.2345],
    ]
    for _ in range(2):
        pd.testing.assert_frame_equal(scored_on_worse_photos(tmp_path), pd.DataFrame(expected, columns=columns))
        assert asked == [(tmp_path / "runs/MCL-1", {"corruptions": True})]


def test_the_features_of_a_finished_run_are_scored_once(tmp_path, monkeypatch) -> None:
    """Accuracies are in percent, the linear classifier's first, and a run that is in the table stays as it is."""
    asked = []

    def transfer(run, **options):
        asked.append((run, options))
        return TransferScores(
            {"nearest": scores_of(0.212345), "linear": scores_of(0.25)},
            strength=0.125,
            neighbours=20,
            features=8,
            images={"train": 980, "val": 20, "test": 10_000},
            chance=0.01,
        )

    monkeypatch.setattr(classmates, "transfer", transfer)
    monkeypatch.setattr(transferred, "TABLE", tmp_path / "transferred.csv")
    write_runs(tmp_path)
    for seed in range(3):
        (tmp_path / f"runs/MCL-{seed}").mkdir(parents=True)
        (tmp_path / f"runs/MCL-{seed}/student.safetensors").touch()
    columns = ["row", "seed", "linear", "nearest", "C"]
    known, new = ["MCL", 0, 30.0, 20.0, 1.5], ["MCL", 1, 25.0, 21.2345, 0.125]
    pd.DataFrame([known], columns=columns).to_csv(tmp_path / "transferred.csv", index=False)
    for _ in range(2):
        found = transferred.scored("cifar", [tmp_path])
        pd.testing.assert_frame_equal(found, pd.DataFrame([known, new], columns=columns))
        pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "transferred.csv"))
        assert asked == [(tmp_path / "runs/MCL-1", {"data_dir": "cifar", **transferred.HOW})]


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


def gain(difference: float, low: float | str = "", high: float | str = "", **others: object) -> chart.Row:
    """A line of a comparison's table as it is read: five seeds, and neither clearly better nor clearly worse."""
    usual = {"seeds": 5, "marked": False, "marked_worse": False, "training_ratio": ""}
    line = {"difference": difference, "low": low, "high": high, **usual, **others}
    return {name: str(value) for name, value in line.items()}


def test_a_gain_is_drawn_in_the_colour_of_its_verdict() -> None:
    """With its interval, which two seeds do not have, and its training time; a method without a run is left out."""
    rows = {
        "DML": gain(-2, -3, -1, marked_worse=True, training_ratio=1.96),
        "KD": gain(1, -0.5, 2.5, training_ratio=1.3),
        "MCL": gain(3, 2, 5, seeds=3, marked=True),
        "AT": gain(0.5, -9, 9, seeds=2, training_ratio=3),
    }
    axes = Figure().subplots()
    chart.draw(axes, rows, ["MCL", "CutMix", "KD", "AT", "DML"])
    zero, *lines = axes.lines
    assert [*zero.get_xdata()] == [0, 0]
    assert [(line.get_color(), [*line.get_xdata()], {*line.get_ydata()}) for line in lines] == [
        *((BLUE, [2, 5], {0}), (BLUE, [3], {0})),
        *((INK, [-0.5, 2.5], {2}), (INK, [1], {2})),
        (INK, [0.5], {3}),
        *((VERMILION, [-3, -1], {4}), (VERMILION, [-2], {4})),
    ]
    points = [line for line in lines if line.get_marker() == "o"]
    assert [point.get_fillstyle() for point in points] == ["full", "full", "none", "full"]
    times = [(text.xy[1], text.get_text()) for text in axes.texts]
    assert times == [(0, "–"), (2, "1.3 ×"), (3, "3.0 ×"), (4, "2.0 ×")]
    assert axes.get_ylim() == (4.5, -0.5)
    assert axes.get_xlabel() == "points gained\n2 to 5 seeds"


def test_the_chart_has_what_is_shared_and_what_is_clearly_better() -> None:
    """A data set with a single shared method is left out, and so is a method of one set that is not clear."""
    slight, clear, worse = gain(1), gain(2, marked=True), gain(-2, marked_worse=True)
    tables = {
        "photos": {"MCL": slight, "KD": worse, "AT": slight, "SD": clear},
        "photos-128": {"KD": slight, "DML": worse, "MCL": clear},
        "digits-100": {"MCL": slight, "CORSD": clear},
    }
    assert chart.shared(tables) == {
        "photos": {"MCL": slight, "KD": worse, "SD": clear},
        "photos-128": {"KD": slight, "MCL": clear},
    }


def test_a_table_is_read_without_its_reference_and_times_of_other_machines(tmp_path, monkeypatch) -> None:
    """What Baseline gains by training longer has one name, however much longer."""
    ratios = {"Baseline": 1.0, "MCL": 2.5, "DML": 1.5, "Baseline (2 × as long)": 2.0}
    lines = [{"row": row, "reference": "Baseline", "training_ratio": ratio} for row, ratio in ratios.items()]
    monkeypatch.setattr(chart, "HERE", tmp_path)
    times = []
    for folder in ("small-photos", "photos-128", "corsd-depth"):
        (tmp_path / folder).mkdir()
        pd.DataFrame(lines).to_csv(tmp_path / folder / "table.csv", index=False)
        times.append({name: row["training_ratio"] for name, row in chart.read(folder).items()})
    assert times == [
        {"MCL": "2.5", "DML": "1.5", "Baseline (as long as MCL)": "2.0"},
        {"MCL": "2.5", "DML": "", "Baseline (as long as MCL)": "2.0"},
        {"MCL": "", "DML": "", "Baseline (as long as MCL)": ""},
    ]


def test_one_chart_has_every_table_that_is_there_and_one_what_they_share(tmp_path, monkeypatch) -> None:
    tables = {folder: {"MCL": gain(1), "KD": gain(2), folder: gain(3)} for folder in ("photos", "photos-128")}
    for folder in tables:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "table.csv").touch()
    drawn = {}
    monkeypatch.setattr(chart, "HERE", tmp_path)
    monkeypatch.setattr(chart, "read", tables.__getitem__)
    monkeypatch.setattr(chart, "chart", lambda tables, file: drawn.update({file: tables}))
    chart.main()
    assert drawn == {"gains": chart.shared(tables), "gains_all": tables}
    assert drawn["gains"] != tables


def test_a_chart_has_a_column_a_data_set_and_the_largest_mean_gain_first(tmp_path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(chart, "save", lambda figure, stem: drawn.append((figure, stem)))
    monkeypatch.setattr(chart, "HERE", tmp_path)
    photos = {"DML": gain(2.5, 2, 3), "MCL": gain(1, 0, 2), "KD": gain(-1, -2, 0)}
    chart.chart({"photos": photos, "digits-100": {"MCL": gain(5, 4, 6)}}, "gains")
    ((figure, stem),) = drawn
    assert stem == tmp_path / "gains"
    first, second = figure.axes
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["629 photos,\nfine-tuned", "100 digits,\nfrom scratch"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["MCL", "DML", "KD"]
    np.testing.assert_array_equal(first.get_yticks(), [0, 1, 2])
    assert (len(first.lines), len(second.lines)) == (7, 3)
    assert second.get_xlabel() == "points gained\n5 seeds"


def test_every_comparison_is_listed_with_its_table():
    results = Path(__file__).parent.parent / "results"
    listed = (results / "README.md").read_text(encoding="utf-8")
    tables = [path.relative_to(results).as_posix() for path in results.glob("evidence/*/table.md")]
    assert tables
    assert [table for table in tables if f"]({table})" not in listed] == []
