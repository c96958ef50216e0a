"""Formats measured side by side on a real run: what is kept, what is not, and what the table says."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from classmates import export, load_student
from classmates.deployment import measured, measuring
from classmates.deployment.export import UNUSED
from classmates.deployment.formats import FORMATS, MEASURED
from classmates.deployment.measured import formats_of
from classmates.errors import UserError
from classmates.runs.folder import read_record
from classmates.runs.student import StudentCard

CARD = StudentCard("resnet8", tuple("0123456789"), (1, 8, 8), (0.5,), (0.2,), (8, 8), {"in_chans": 1})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measuring, "MOST_SECONDS", 0.0)


def test_the_table_says_what_each_file_does(sd_copy, capsys):
    found = export(sd_copy, formats=["onnx", "onnx-int8", "torch"], calibration_images=64, most_lost=0.5)
    assert [row.format for row in found.rows] == ["student", "onnx", "onnx-int8", "torch"]
    test = read_record(sd_copy / "result.json").headline()
    student, onnx, int8, pt2 = found.rows
    assert (student.score, student.low, student.high, student.count) == (test.value, test.low, test.high, test.count)
    for row in (onnx, pt2):
        assert (row.score, row.difference, row.agreement) == (test.value, 0, 1)
    assert 0.8 < int8.agreement <= 1
    assert int8.difference == pytest.approx(int8.score - test.value)
    assert int8.size < 0.5 * onnx.size == 0.5 * (sd_copy / "student.onnx").stat().st_size
    assert all(0 < row.one_median <= row.one_p95 and row.many_median > 0 for row in found.rows)
    assert {"student.onnx", "student-int8.onnx", "student.pt2", "exports.csv"} <= set(os.listdir(sd_copy))
    table = pd.read_csv(sd_copy / "exports.csv")
    assert table["format"].tolist() == [row.format for row in found.rows]
    card = load_student(sd_copy).card
    assert card.exports["onnx-int8"]["agreement"] == int8.agreement
    assert card.exports.keys() == {"onnx", "onnx-int8", "torch"}
    text = str(found)
    assert max(len(line) for line in text.splitlines() if str(sd_copy) not in line) <= 80
    assert f"{test.value:.2%}" in text
    assert re.search(r"smallest(, and fastest for one image)?: onnx-int8", text)
    assert f"deploy: {sd_copy / 'student-int8.onnx'}" in text


def test_8_bit_ranges_are_set_by_training_images(sd_copy, monkeypatch):
    real, drawn = measuring.Images.batches, []

    def batches(images, split, size=measuring.BATCH, most=None):
        if split != "test":  # whose images are timed
            drawn.append((split, most))
        return real(images, split, size, most)

    monkeypatch.setattr(measuring.Images, "batches", batches)
    export(sd_copy, formats=["onnx-int8"], calibration_images=40, most_lost=1)
    assert drawn == [("train", 40)]


def test_a_card_that_cannot_be_written_is_told_and_no_more(tmp_path, monkeypatch, capsys):
    def refuse(run, card):
        assert card.exports == {"onnx": {"size": 1}}
        raise UserError("'student.json' cannot be written")

    monkeypatch.setattr(measuring, "write_card", refuse)
    measuring.note_in_card(tmp_path, CARD, {"onnx": {"size": 1}}, SimpleNamespace(own=True))
    said = capsys.readouterr().err
    assert "the measures are not in the student's card: 'student.json' cannot be written" in said


@pytest.mark.parametrize("share", [-0.01, 1.01])
def test_a_loss_that_nothing_can_keep_to_is_refused(sd_copy, share):
    with pytest.raises(UserError, match=f"most_lost is {share}"):
        export(sd_copy, formats=["torch"], most_lost=share)


def test_a_file_that_fails_or_loses_much_is_told_and_not_kept(sd_copy, monkeypatch):
    (sd_copy / "student-int8.onnx").write_text("of another time")
    runner = lambda images: torch.zeros(len(images), 10)

    def refuse(*_):
        raise UserError("no image to calibrate with")

    write = lambda paths, source: paths[0].write_text("something")
    broken = {
        "onnx": replace(FORMATS["onnx"], write=write, open=lambda *_: runner),
        "torch": replace(FORMATS["torch"], write=lambda *_: 1 / 0),
        "onnx-int8": replace(FORMATS["onnx-int8"], write=write, open=lambda *_: lambda images: runner(images) / 0),
        "openvino": replace(FORMATS["openvino"], needs=("no_such_package",)),
        "executorch": replace(FORMATS["executorch"], needs=(), write=refuse),
    }
    monkeypatch.setattr(measured, "FORMATS", broken)
    found = export(sd_copy, formats=list(broken))
    said = {row.format: row.status for row in found.rows}
    assert said["onnx"].startswith("its top-1 accuracy is ")
    assert said["onnx"].endswith("points below the student's, more than most_lost 5")
    assert said["torch"] == "it cannot be written or run: division by zero"
    assert said["onnx-int8"] == "its answers are not finite numbers; student-int8.onnx is of an earlier export"
    assert said["openvino"] == "it needs pip install 'classmates[openvino]'"
    assert said["executorch"] == "it cannot be written or run: no image to calibrate with"
    assert (sd_copy / "exports.csv").exists()
    assert (sd_copy / "student-int8.onnx").read_text() == "of another time"
    assert not {"student.onnx", "student.pt2", "student.xml"} & set(os.listdir(sd_copy))
    assert json.loads((sd_copy / "student.json").read_text())["exports"] == {}
    text = str(found)
    assert "not kept: torch: it cannot be written or run" in text
    assert "deploy the student as it is" in text
    assert f"deploy: {sd_copy / 'student.safetensors'}\n" in text
    assert max(len(line) for line in text.splitlines() if str(sd_copy) not in line) <= 80


@pytest.mark.parametrize(
    ("given", "names"), [("all", [*MEASURED]), (["all", "onnx"], [*MEASURED]), ("torch", ["torch"])]
)
def test_one_format_or_all_are_a_word(given, names):
    assert formats_of(given) == names


def test_single_images(sd_copy):
    found = export(sd_copy, formats=["torch"], dynamic_batch=False)
    assert found.rows[1].difference == 0
    assert found.rows[1].many_median is None
    assert "torch" in str(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"formats": ["onx"]}, "unknown format 'onx': did you mean 'onnx'"),
        ({"formats": "onx"}, "unknown format 'onx': did you mean 'onnx'"),
        ({"what": "embedding", "formats": ["torch"]}, "what is 'embedding', but formats are judged .*, by logits"),
        ({"format": "onnx-int8"}, "--formats onnx-int8 measures that one"),
        ({"threads": 0}, "threads is 0; give 1 or more"),
        ({"calibrated": True}, "not calibrated yet: `classmates evaluate"),
        ({"formats": ["onnx"], "out": Path("student.onnx")}, "several files are written: give a folder"),
        ({"what": "early_exit", "out": Path("early.onnx")}, "several files are written: give a folder"),
        ({"formats": ["onnx"], "out": Path("/proc/nothing")}, "cannot be written"),
        ({"what": "early_exit", "out": Path("/proc/nothing")}, "cannot be written"),
    ],
)
def test_wrong_input(sd_run, given, said):
    with pytest.raises(UserError, match=said):
        export(sd_run, **given)


WAYS = {
    "one format": {},
    "formats": {"formats": ["onnx"]},
    "formats without onnx-int8": {"formats": ["onnx", "torch"]},
    "what early_exit": {"what": "early_exit"},
}
OTHERS = {
    "format": "torch",
    "formats": ["onnx"],
    "prototypes": Path("prototypes.safetensors"),
    "calibrated": True,
    "preprocessing": True,
    "dynamic_batch": False,
    "tolerance": 1.0,
    "data": "digits",
    "data_dir": "folder",
    "threads": 2,
    "calibration_images": 5,
    "most_lost": 0.5,
}


@pytest.mark.parametrize(("way", "name"), [(way, name) for way, names in UNUSED.items() for name in names])
def test_what_means_nothing_is_refused(sd_run, way, name):
    with pytest.raises(UserError, match=f"{name} does not go with {way}: leave (it )?out"):
        export(sd_run, **(WAYS[way] | {name: OTHERS[name]}))


def test_of_measures_and_preprocessing_it_is_said_which_to_leave_out_for_what(sd_run):
    with pytest.raises(UserError) as refused:
        export(sd_run, formats=["onnx"], preprocessing=True)
    for said in (
        "leave out --formats for one ONNX file that takes pixels as they are (--format onnx --preprocessing true)",
        "or --preprocessing for measures of files that take prepared images",
    ):
        assert said in str(refused.value)


def test_a_student_of_the_hub_needs_a_place():
    with pytest.raises(UserError, match=r"'hf:someone/student' is on the Hub: say where to write"):
        export("hf:someone/student")
