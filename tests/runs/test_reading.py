"""A run's folder is read as it was written; whatever is missing or damaged is named with its file."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmates.errors import UserError
from classmates.runs.reading import read_run

Change = Callable[[Path, Callable[[Any], object]], None]
FILES = ("result.json", "config.yaml", "metrics.csv", "student.json", "evaluation.npz")


def test_a_finished_run_is_read(finished_run: Path) -> None:
    run = read_run(finished_run)
    written = json.loads((finished_run / "result.json").read_text())
    assert list(run.record.test) == ["student", "peer1", "peer2", "ensemble"]  # the student first
    assert run.record.headline("peer1").value == written["test"]["peer1"]["top1"]["value"]
    assert run.record.headline().low == written["test"]["student"]["top1"]["low"]
    assert run.record.validation is not None
    assert run.record.validation.last.epoch == 8
    assert run.record.finished.year == 2026
    assert run.record.training.peak_memory_mib is None
    assert run.settings["method"]["init_args"]["peers"] == 3
    assert len(run.metrics) == 8
    assert run.class_names == list("0123456789")
    right = run.evaluation.logits.argmax(1) == run.evaluation.labels
    assert right.mean() == pytest.approx(run.record.headline().value)
    assert [name for name, _ in run.evaluation.features] == ["rows", "pixels", "embedding"]


def test_a_run_of_version_1_is_read(version_1: Path) -> None:
    run = read_run(next(version_1.glob("runs/DML*")))
    assert list(run.record.test) == ["student", "peer1", "ensemble"]
    assert (run.evaluation.logits.argmax(1) == run.evaluation.labels).mean() == run.record.headline().value
    assert run.record.protocol.monitored in run.metrics


def test_a_later_version_is_told_as_such(run_copy: Path, change: Change) -> None:
    change(run_copy / "result.json", lambda result: result.update(version=9))
    with pytest.raises(UserError, match=r"result.json: results of version 9 .* update"):
        read_run(run_copy)


def test_a_class_name_that_is_not_unicode_is_escaped(run_copy: Path, change: Change) -> None:
    change(run_copy / "student.json", lambda card: card["class_names"].__setitem__(0, "caf\udce9"))
    assert read_run(run_copy).class_names[0] == "caf\\udce9"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such run: .*nowhere is not a folder"):
        read_run(tmp_path / "nowhere")


def test_an_unfinished_run_is_told_as_such(run_copy: Path) -> None:
    (run_copy / "result.json").unlink()
    with pytest.raises(UserError, match=r"not a finished run: .*run has no result.json; .*resume"):
        read_run(run_copy)


@pytest.mark.parametrize("file", FILES[1:])
def test_a_missing_file_is_named(run_copy: Path, file: str) -> None:
    (run_copy / file).unlink()
    with pytest.raises(UserError, match=rf"incomplete run: .*{file} is missing; put it back"):
        read_run(run_copy)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00 not text", b"[1, 2"])
def test_a_file_of_something_else_is_named(run_copy: Path, file: str, content: bytes) -> None:
    (run_copy / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged run: cannot use .*{file}: .*; put it back"):
        read_run(run_copy)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda result: result["test"]["student"].pop("top1"), "missing: 'top1 of student'"),
        (lambda result: result["test"].pop("student"), "missing: 'student'"),
        (lambda result: result.update(finished="yesterday"), "yesterday"),
        (lambda result: result.update(seed=float("inf")), "infinity"),
        (lambda result: result["test"]["peer1"].update(nll={"value": "good"}), "good"),
    ],
)
def test_a_result_that_lacks_something_is_refused(
    run_copy: Path, change: Change, edit: Callable[[Any], object], reason: str
) -> None:
    change(run_copy / "result.json", edit)
    with pytest.raises(UserError, match=rf"cannot use .*result.json: .*{reason}"):
        read_run(run_copy)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda arrays: arrays.pop("logits/student"), "missing: .*logits/student"),
        (lambda arrays: arrays.pop("features/1"), "missing: .*features/1"),
        (lambda arrays: arrays.update(labels=arrays["labels"][:-1]), "its labels is not"),
        (lambda arrays: arrays.update(labels=arrays["labels"] + 1), "its labels is not"),
        (lambda arrays: arrays["logits/student"].__setitem__(0, np.nan), "its logits/student is not finite"),
        (lambda arrays: arrays.update(wrong_rows=arrays["wrong_rows"] + 797), "its wrong_rows is not"),
        (lambda arrays: arrays.update(wrong_images=arrays["wrong_images"][1:]), "its number of wrong_images"),
        (lambda arrays: arrays.update(wrong_images=arrays["wrong_images"] / 255), "its wrong_images is not"),
        (lambda arrays: arrays.update(wrong_files=np.array(["a.jpg"])), "its wrong_files is not"),
        (lambda arrays: arrays.update(wrong_files=np.arange(12)), "its wrong_files is not"),
        (lambda arrays: arrays.update(feature_labels=arrays["feature_labels"][1:]), "its features/0 is not"),
        (lambda arrays: arrays.update(labels=np.array([object()])), "allow_pickle"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    run_copy: Path, change: Change, edit: Callable[[Any], object], reason: str
) -> None:
    change(run_copy / "evaluation.npz", edit)
    with pytest.raises(UserError, match=rf"cannot use .*evaluation.npz: .*{reason}"):
        read_run(run_copy)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda arrays: arrays.pop("episodes"), "missing: 'episodes'"),
        (lambda arrays: arrays.update(episodes=arrays["episodes"] + 30), "its episodes is not"),
        (lambda arrays: arrays.update(episodes=arrays["episodes"][:, 1:]), "its episodes is not"),
        (lambda arrays: arrays.update(episodes=arrays["episodes"][0]), "its episodes is not"),
        (lambda arrays: arrays.update(episodes=arrays["episodes"][..., 1:]), "its episodes is not"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    few_shot_run: Path, change: Change, edit: Callable[[Any], object], reason: str
) -> None:
    change(few_shot_run / "evaluation.npz", edit)
    with pytest.raises(UserError, match=rf"cannot use .*evaluation.npz: .*{reason}"):
        read_run(few_shot_run)


@given(st.sampled_from(FILES), st.data())
def test_any_damage_is_an_error_for_the_user_or_none(finished_run: Path, file: str, data: st.DataObject) -> None:
    content = bytearray((finished_run / file).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(finished_run, folder, dirs_exist_ok=True)
        (Path(folder) / file).write_bytes(content)
        with contextlib.suppress(UserError):
            read_run(Path(folder))
