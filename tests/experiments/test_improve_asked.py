"""Making a network better: what it is asked for, chosen for the data or refused before anything is written."""

import time

import pytest
from PIL import Image

from classmates.errors import UserError
from classmates.experiments.improve import improve
from classmates.experiments.running import deadline_after
from classmates.methods import Baseline
from classmates.training.recipes import NAMES, RECOMMENDED
from tests.fixtures.improving import better


@pytest.mark.parametrize("dry_run", [False, True])
def test_no_folder_among_the_classes_is_taken_not_even_for_a_plan(tmp_path, dry_run):
    for number in range(24):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(folder / f"{number}.png")
    with pytest.raises(UserError, match="would lie among the classes"):
        better(tmp_path / "photos" / "new", data=str(tmp_path / "photos"), train={"epochs": 1}, dry_run=dry_run)
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a", "b"]


def test_what_is_left_open_is_chosen_for_the_data(tmp_path):
    plan = improve("digits", seeds=1, train={"train_size": 120}, out=tmp_path / "new", dry_run=True)
    assert [job.row for job in plan.jobs] == ["Baseline", *RECOMMENDED["small-images"]]
    assert {job.model for job in plan.jobs} == {"resnet8"}
    assert {job.settings["val_fraction"] for job in plan.jobs} == {0.2}
    assert not (tmp_path / "new").exists()


def test_every_recipe_has_recommended_methods():
    assert RECOMMENDED.keys() == set(NAMES)


AVERAGED = "MCL(start='identical', views='own', deploy='average')"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val_fraction": 0}, "val_fraction=0: there must be validation images"),
        ({"seeds": 0}, "seeds is 0"),
        ({"methods": ["MLC"]}, "unknown method 'MLC'"),
        ({"methods": ["Baseline", "MCL"]}, "Baseline is always tried"),
        ({"methods": "MCL,Baseline"}, "Baseline is always tried"),
        ({"methods": [Baseline]}, "Baseline is always tried"),
        ({"methods": ["MCL", "MCL"]}, "'MCL' comes twice"),
        ({"max_time": "1 hour"}, "max_time is '1 hour': give a time such as 2h"),
        ({"max_time": "00:00:00:00"}, "not nothing"),
        ({"max_time": 7200}, "max_time is '7200': give a time such as 2h"),
        ({"train": {"test": True}}, "--train.test"),
        ({"train": {"task": "few_shot"}}, "--train.task: improve judges classifiers"),
        ({"train": {"epohcs": 1}}, "unknown key 'epohcs' in --train"),
        ({"workers": -1}, "workers=-1"),
        ({"train": {"ema": 2.0}}, "ema=2.0: the decay of an average lies between 0 and 1"),
        ({"train": {"freeze_stages": 99}}, "freeze_stages=99: the student has"),
        (
            {"methods": [AVERAGED], "train": {"ema": 0.9, "augmentation": {"flip": True}}},
            "row 'MCL.*ema=0.9: this run averages its peers' weights",
        ),
    ],
)
def test_wrong_input(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        better(tmp_path / "improved", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_in_seconds():
    assert deadline_after("01:01:01:01") - time.monotonic() == pytest.approx(90_061, abs=5)
