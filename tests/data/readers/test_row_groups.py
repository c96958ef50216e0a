"""Columns of a table that say which rows belong together keep their images in one part."""

import itertools
import re

import pandas as pd
import pytest
from PIL import Image

from classmates.data.loading import load
from classmates.data.readers.row_groups import row_groups
from classmates.data.twins import notes_on_twins
from classmates.evaluation.evaluate import evaluate, student_predictions
from classmates.experiments.compare import compare
from classmates.experiments.identity import data_fingerprint
from classmates.runs.folder import read_record
from classmates.tasks.classification import Classification
from classmates.training.train import train

PATIENTS = 20


@pytest.fixture
def scans(tmp_path):
    """A table of three different images of each patient, of two classes; its columns beside them can be chosen."""

    def make(column="patient_id", **more):
        rows = [["file", "label", column, *more]]
        for patient, view in itertools.product(range(PATIENTS), range(3)):
            number = 3 * patient + view
            Image.new("L", (8, 8), 4 * number).save(tmp_path / f"{number}.png")
            of_row = [str(values(patient, view)) for values in more.values()]
            rows.append([f"{number}.png", "ab"[patient % 2], f"P{patient}", *of_row])
        table = tmp_path / "scans.csv"
        table.write_text("\n".join(map(",".join, rows)) + "\n")
        return table

    return make


def patients(split):
    return {int(path.stem) // 3 for path in split.paths}


def divided(data):
    """The patients that are in training and in another part."""
    return patients(data.train) & set().union(*(patients(split) for split in (data.val, data.test) if split))


@pytest.mark.parametrize("column", ["patient_id", "Patient ID", "group", "subjectId", "video", "PatientNumber"])
def test_no_group_is_divided(scans, column):
    table = scans(column)
    for seed in range(5):
        data = load(table, val_fraction=0.25, seed=seed)
        parts = [patients(split) for split in (data.train, data.val, data.test)]
        assert set.union(*parts) == set(range(PATIENTS))
        assert sum(map(len, parts)) == PATIENTS
        assert sum(map(len, (data.train, data.val, data.test))) == 3 * PATIENTS
        assert not notes_on_twins(data.notes)
        assert f"rows of the same '{column}' are of one group" in data.notes
        assert any("4 of 20 groups, 12 of 60 images, were split off" in note for note in data.notes)


def test_the_label_is_the_column_that_is_none_of_groups(scans):
    table = scans()
    table.write_text(table.read_text().replace("label", "diagnosis", 1))
    assert load(table).class_names == ("a", "b")


def test_several_columns_tie_rows_together(scans):
    """As lesions do of patients: whichever column is the finer."""
    lesions = scans(burst=lambda patient, view: f"{patient}-{view // 2}")
    for seed in range(5):
        data = load(lesions, val_fraction=0.25, seed=seed)
        assert not divided(data)
        assert "rows of the same 'patient_id' or 'burst' are of one group" in data.notes


def test_a_copy_ties_two_groups_to_one_another(scans, tmp_path):
    table = scans()
    for patient in range(2, PATIENTS - 4, 2):  # all of class "a" but the last two share an image with the first of it
        Image.open(tmp_path / "0.png").save(tmp_path / f"{3 * patient}.png")
    for seed in range(5):
        data = load(table, val_fraction=0, seed=seed)
        assert not divided(data)
        tied = set(range(0, PATIENTS - 4, 2))
        assert tied <= patients(data.train) or tied <= patients(data.test)


def test_a_number_is_the_same_group_as_text_and_as_a_fraction():
    rows = pd.DataFrame({"label": list("aabb"), "case": ["12", "12.0", "12.00", "1.50"]})
    groups, _ = row_groups(rows, "label", [])
    assert groups.unique().numel() == 2


def test_what_is_held_out_of_few_groups_is_said(tmp_path):
    """One group of each class at least, which may be far more than was asked for."""
    rows = ["file,label,patient"]
    for number in range(5 * 4 * 5):
        patient, name = number // 5, f"{number}.png"
        Image.new("L", (8, 8), 2 * number).save(tmp_path / name)
        rows.append(f"{name},class {patient // 4},P{patient}")
    (tmp_path / "scans.csv").write_text("\n".join(rows))
    data = load(tmp_path / "scans.csv", val_fraction=0.1)
    assert (len(data.train), len(data.val), len(data.test)) == (50, 25, 25)
    assert any("5 of 20 groups, 25 of 100 images, were split off" in note for note in data.notes)
    said = "for validation 25 of 75 images are held out, in whole groups, of each class one at least"
    assert said in data.notes
    assert not any("for validation" in note for note in load(tmp_path / "scans.csv", val_fraction=0.3).notes)


@pytest.mark.parametrize("nothing", ["", "NA", "unknown", "-1", "-1.0", "row 9"])
def test_rows_whose_group_is_not_known_are_their_own(scans, nothing):
    some = load(scans("view", patient=lambda patient, view: patient if patient < 4 else nothing), val_fraction=0)
    assert not divided(some) & set(range(4))
    rows = pd.DataFrame({"label": list("aaabb"), "case": ["1", "1", "2", nothing, nothing]})
    groups, _ = row_groups(rows, "label", [])
    assert groups.unique().numel() == (3 if nothing == "row 9" else 4)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["1", "2", "3", "4"], None),
        (["", "na", "", ""], None),
        (["x", "x", "x", "x"], "'group' is not taken for groups: each class has one only"),
        (["x", "x", "y", "y"], "'group' is not taken for groups: each class has one only"),
    ],
)
def test_columns_that_tie_nothing_beyond_the_classes_are_left_out(values, note):
    found = row_groups(pd.DataFrame({"label": list("aabb"), "group": values}), "label", [])
    assert found == (None, [note] if note else [])


def test_groups_that_are_divided_are_told(scans):
    """Where parts are given so, or one group is all there is of a class."""
    data = load(scans(split=lambda patient, view: "test" if view == 0 and patient < 7 else "train"), val_fraction=0)
    (note,) = notes_on_twins(data.notes)
    assert note == (
        "groups of images are both in training and in another part of 'scans': 7; "
        "the scores of that part are too good"
    )
    apart = load(scans(split=lambda patient, view: ["train", "val", "test"][0 if patient < 9 else 1 + view % 2]))
    assert not notes_on_twins(apart.notes)  # those that choose and those that judge may share them
    one = scans("site", group=lambda patient, view: 100 if patient % 2 else patient)
    (note,) = notes_on_twins(load(one, val_fraction=0).notes)
    assert "of 'scans': 1;" in note
    of_parts = {"split": lambda patient, view: ["train", "val", "test"][view]}
    few_shot = scans(**of_parts, kind=lambda patient, view: f"{view}-{patient % 2}")
    assert notes_on_twins(load(few_shot, label="kind", classes="disjoint").notes)


def test_a_ledger_knows_the_groups_by_which_its_images_were_divided(scans):
    given = {"split": lambda patient, view: "test" if patient < 4 else "train"}
    before = data_fingerprint({"data": str(scans(**given)), "seed": 0})
    for number, (one, other) in enumerate([("P19", "P18"), ("P3,", "P2,")]):
        table = scans(**given)
        table.write_text(table.read_text().replace(one, other))
        changed = table.rename(table.with_name(f"other{number}.csv"))
        assert data_fingerprint({"data": str(changed), "seed": 0}) != before


def test_the_test_images_of_a_run_keep_their_groups(scans, tmp_path):
    table = scans()
    here = {"num_workers": 0, "accelerator": "cpu"}
    run = train(table, "resnet8", epochs=1, batch_size=8, val_fraction=0, out=tmp_path / "run", **here).folder
    task = Classification()
    found = student_predictions(run, task=task, **here)
    assert found.groups.tolist() == load(table, val_fraction=0).test.groups.tolist()
    assert found.groups.unique().numel() == PATIENTS // 5
    scores = task.protocol.score(found.logits["student"], found.labels, found.groups)
    assert read_record(run / "result.json").test["student"]["top1"] == scores["top1"]
    assert scores["top1"].half_width > task.protocol.score(found.logits["student"], found.labels)["top1"].half_width
    assert evaluate(run, **here) == scores


def test_test_images_of_one_group_leave_no_interval(scans, tmp_path):
    """Nor stops a run, its report or a comparison at that."""
    table = scans(split=lambda patient, view: "test" if patient < 4 else "train")
    table.write_text(re.sub(r"P[0-3],", "P0,", table.read_text()))
    quick = {"epochs": 1, "batch_size": 8, "num_workers": 0, "accelerator": "cpu"}
    result = train(table, "resnet8", out=tmp_path / "run", **quick)
    top1 = result.test["student"]["top1"]
    assert (top1.count, top1.low, top1.high) == (12, None, None)
    assert f"{top1.value:.2%}" in str(result)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "There is no interval: the protocol gives none, or all images are of one group" in page
    made = compare(["Baseline"], ["resnet8"], [str(table)], seeds=1, train=quick, out=tmp_path / "made")
    assert "Baseline" in str(made)
    assert (tmp_path / "made" / "report.html").is_file()
