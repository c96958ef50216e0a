"""Images of one group, as a table names them, are in one part of what is split off."""

import itertools

import pytest
from PIL import Image

from classmates.data.loading import load
from classmates.data.twins import notes_on_twins
from classmates.evaluation.evaluate import student_predictions
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


@pytest.mark.parametrize("column", ["patient_id", "Patient ID", "group", "subjectId", "video"])
def test_no_group_is_divided(scans, column):
    table = scans(column)
    for seed in range(5):
        data = load(table, val_fraction=0.25, seed=seed)
        parts = [patients(split) for split in (data.train, data.val, data.test)]
        assert set.union(*parts) == set(range(PATIENTS))
        assert sum(map(len, parts)) == PATIENTS
        assert sum(map(len, (data.train, data.val, data.test))) == 3 * PATIENTS
        assert not notes_on_twins(data.notes)
        assert f"rows of one '{column}' stay in one part when parts are split off" in data.notes[0]


def test_a_copy_ties_two_groups_to_one_another(scans, tmp_path):
    table = scans()
    for patient in range(2, PATIENTS, 2):  # all of class "a" share an image with the first of it, but the last two
        if patient < PATIENTS - 4:
            Image.open(tmp_path / "0.png").save(tmp_path / f"{3 * patient}.png")
    for seed in range(5):
        data = load(table, val_fraction=0, seed=seed)
        assert not patients(data.train) & patients(data.test)
        tied = set(range(0, PATIENTS - 4, 2))
        assert tied <= patients(data.train) or tied <= patients(data.test)


def test_rows_without_a_group_are_their_own_and_groups_of_one_are_none(scans):
    data = load(scans("patient", sequence=lambda patient, view: ""))
    assert "'patient'" in data.notes[0]
    alone = load(scans("view", patient=lambda patient, view: f"{patient}-{view}"))
    assert "stay in one part" not in alone.notes[0]
    some = load(scans("view", patient=lambda patient, view: patient if patient < 4 else ""), val_fraction=0.2)
    assert some.train.groups.unique().numel() > PATIENTS
    for patient in range(4):
        assert sum(patient in patients(split) for split in (some.train, some.val, some.test)) == 1


def test_groups_that_are_divided_are_told(scans):
    """Where parts are given so, or one group is all there is of a class."""
    data = load(scans(split=lambda patient, view: "test" if view == 0 and patient < 7 else "train"), val_fraction=0)
    (note,) = notes_on_twins(data.notes)
    assert note == (
        "groups of images are in two parts of 'scans': 7; "
        "scores on images of a group that was trained on are too good"
    )
    one = load(scans("site", group=lambda patient, view: patient % 2), val_fraction=0)
    (note,) = notes_on_twins(one.notes)
    assert "of 'scans': 2;" in note


def test_the_test_images_of_a_run_keep_their_groups(scans, tmp_path):
    table = scans()
    here = {"num_workers": 0, "accelerator": "cpu"}
    run = train(table, "resnet8", epochs=1, batch_size=8, val_fraction=0, out=tmp_path / "run", **here).folder
    found = student_predictions(run, task=Classification(), **here)
    assert found.groups.tolist() == load(table, val_fraction=0).test.groups.tolist()
    assert found.groups.unique().numel() == PATIENTS // 5
