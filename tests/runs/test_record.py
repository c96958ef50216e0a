"""The record of a run comes back as it was written, in every version, and says what is wrong with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classmates.errors import UserError
from classmates.runs.folder import read_record
from classmates.runs.record import VERSION, EarlyExits, RunRecord


@pytest.fixture
def record(finished_run: Path) -> RunRecord:
    return RunRecord.from_json((finished_run / "result.json").read_text())


def test_a_record_comes_back_as_it_was_written(record: RunRecord) -> None:
    exits = EarlyExits([0.9, 0.0], accuracy=0.75, cost=0.5, saved=0.5, shares=[0.5, 0.5, 0.0])
    full = replace(record, exits=exits, notes=["é"], config={"lr": 0.1, "method": {"class_path": "classmates.MCL"}})
    bare = replace(record, validation=None)
    for one in (full, bare):
        assert RunRecord.from_json(one.to_json()) == one
    assert "é" in full.to_json()
    assert json.loads(full.to_json())["version"] == VERSION == 2


def test_a_metric_in_json(record: RunRecord) -> None:
    metric = json.loads(record.to_json())["test"]["student"]["top1"]
    assert metric == vars(record.headline())
    assert metric.keys() == {"value", "low", "high", "count", "better"}


def test_version_1_is_read(version_1: Path) -> None:
    for path in sorted(version_1.glob("runs/*/result.json")):
        old = json.loads(path.read_text())
        record = read_record(path)
        assert record is not None
        assert record.protocol.name == "classification"
        assert record.test.keys() == old["test"].keys()
        for who, scores in old["test"].items():
            assert record.test[who]["nll"].value == scores["nll"]
            assert [record.headline(who).low, record.headline(who).high] == scores["top1_interval"]
        assert record.validation is not None
        assert record.validation.best.epoch == old["validation"]["best"]["epoch"]
        assert record.config == old["config"]
        assert RunRecord.from_json(record.to_json()) == record


def test_exits_of_version_1_are_read(version_1: Path) -> None:
    content = json.loads(next(version_1.glob("runs/*/result.json")).read_text())
    content["exits"] = {"thresholds": [1.0, 0.0], "top1": 0.75, "cost": 1.0, "saved": 0.0, "shares": [0.0, 1.0, 0.0]}
    assert RunRecord.from_json(json.dumps(content)).exits == EarlyExits([1.0, 0.0], 0.75, 1.0, 0.0, [0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda result: result.pop("training"), "missing: 'training'"),
        (lambda result: result["test"].pop("student"), "missing: 'student'"),
        (lambda result: result["test"]["peer1"].pop("top1"), "missing: 'top1 of peer1'"),
        (lambda result: result["protocol"]["metrics"].pop("top1"), "missing: 'format of top1'"),
        (lambda result: result["test"]["student"]["top1"].update(better="most"), "better is 'most'"),
        (lambda result: result.update(test=None), "NoneType"),
        (lambda result: result.update(version=0), "version is 0"),
        (lambda result: result.update(seed=float("inf")), "infinity"),
        (lambda result: result.pop("version"), "missing: 'top1_interval'"),
    ],
)
def test_damage_is_named_and_no_record(
    record: RunRecord, tmp_path: Path, edit: Callable[[Any], object], reason: str
) -> None:
    content = json.loads(record.to_json())
    edit(content)
    text = json.dumps(content)
    with pytest.raises(ValueError, match=reason):
        RunRecord.from_json(text)
    (tmp_path / "result.json").write_text(text)
    assert read_record(tmp_path / "result.json") is None


def test_a_file_that_is_not_there_or_cut_off_is_no_record(record: RunRecord, tmp_path: Path) -> None:
    assert read_record(tmp_path / "result.json") is None
    for content in (b"", record.to_json().encode()[:200], b"[1, 2]", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "result.json").write_bytes(content)
        assert read_record(tmp_path / "result.json") is None


def test_a_later_version_is_not_taken_for_damage(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(record.to_json().replace('"version": 2', '"version": 3'))
    with pytest.raises(
        UserError, match=r"result.json: results of version 3 are not known here, only up to 2: .* update"
    ):
        read_record(path)
