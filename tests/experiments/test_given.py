"""What a comparison or a search is given in Python: names, classes, and what is neither."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch import nn
from torchvision.transforms import v2

from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from classmates.experiments.compare import compare
from classmates.experiments.given import settings_of
from classmates.experiments.improve import improve
from classmates.experiments.plan import choose
from classmates.experiments.rows import row_of
from classmates.experiments.sweep import sweep
from classmates.methods import CORSD, KD, MCL, Baseline, Combined
from tests.experiments.test_plan import plan

HERE = {"seeds": 1, "recipe": "none", "dry_run": True}


def test_paths_and_numbers_of_numpy_are_those_of_yaml():
    given = {
        "lr": [*np.logspace(-2, 0, 2)],
        "method.peers": np.arange(1, 3),
        "augmentation": {"cutmix": np.float32(0.5)},
    }
    plain = settings_of("train", {**given, "data_dir": Path("photos")})
    assert yaml.safe_load(yaml.safe_dump(plain)) == {
        "lr": [0.01, 1.0],
        "method.peers": [1, 2],
        "augmentation": {"cutmix": 0.5},
        "data_dir": "photos",
    }
    (job,) = plan(partial(MCL, beta=np.float64(0.1)))
    assert yaml.safe_load(yaml.safe_dump(job.plain()))["settings"]["method"]["init_args"]["beta"] == 0.1


def test_an_augmentation_is_what_was_chosen_of_it():
    plain = settings_of("train", {"augmentation": Augmentation(cutmix=1.0, flip=False)})
    assert plain == {"augmentation": {"cutmix": 1.0, "flip": False}}
    with pytest.raises(
        UserError, match=r"train: augmentation.policy is Identity\(\), and runs are made by names.*FILE"
    ):
        settings_of("train", {"augmentation": Augmentation(policy=v2.Identity())})


def test_classes_are_methods():
    by_name = plan("Baseline", "MCL", "MCL(peers=2)")
    by_class = plan(Baseline, MCL, partial(MCL, peers=2))
    assert [job.name for job in by_class] == [job.name for job in by_name]
    assert [job.row for job in by_class] == ["Baseline", "MCL", "MCL(peers=2)"]
    assert choose("none", [Baseline, MCL], [], [], 1, MCL).reference == "MCL"


def test_a_partial_may_hold_classes():
    (job,) = plan(partial(Combined, methods=[CORSD, partial(MCL, peers=2)]))
    first, second = job.settings["method"]["init_args"]["methods"]
    assert (first["class_path"], second["init_args"]["peers"]) == ("classmates.CORSD", 2)


def test_a_text_is_a_list_as_the_command_line_has_it():
    made = compare("Baseline, MCL(peers=2, beta=0.1)", "resnet8,resnet14", "digits", **HERE).jobs
    rows = ["Baseline", "MCL(peers=2, beta=0.1)"]
    assert [(job.row, job.model) for job in made] == [
        (row, model) for model in ("resnet8", "resnet14") for row in rows
    ]


def test_files_may_be_paths(tmp_path):
    (tmp_path / "mine.yaml").write_text("method: MCL\nlr: 0.2\n")
    (tmp_path / "table.yaml").write_text("rows: {A: {method: Baseline}}\n")
    assert row_of(tmp_path / "mine.yaml")[0] == "mine"
    assert list(choose(tmp_path / "table.yaml", [], [], [Path("digits")], 1, None).rows) == ["A"]


def test_improve_takes_paths_and_classes(tmp_path):
    given = {"seeds": 1, "out": tmp_path / "out", "dry_run": True}
    by_name = improve("digits", "resnet8", methods=["MCL"], **given).jobs
    by_object = improve(Path("digits"), Path("resnet8"), methods=[MCL], train={}, **given).jobs
    assert [job.name for job in by_object] == [job.name for job in by_name]


def test_a_search_takes_a_class(tmp_path):
    found = sweep(partial(MCL, peers=2), space={"lr": [0.1]}, recipe="none", out=tmp_path / "out", dry_run=True)
    assert found.jobs[0].settings["method"]["init_args"]["peers"] == 2


class Local(MCL):
    __module__ = "__main__"


NETWORK = nn.Linear(2, 2)
WRONG = [
    ({"methods": [3]}, "methods: 3 is no method: give a name, such as 'MCL'"),
    ({"methods": ["Baseline", NETWORK]}, r"methods: Linear\(.*\) is no method"),
    ({"methods": [Local]}, "methods: other processes cannot import __main__.Local.*'FILE.py:Local'"),
    ({"methods": [partial(KD, teacher=NETWORK)]}, r"methods: teacher of KD is Linear\(.*the folder of its run"),
    ({"models": [NETWORK]}, r"models: Linear\(.*\) is no name.*FILE.py:CLASS"),
    ({"data": {"train": 1}}, "data: {'train': 1} is no name.*a folder"),
    ({"recipe": {"rows": {}}}, "recipe: {'rows': {}} is no name.*YAML file"),
    ({"train": "lr=1"}, "train: 'lr=1' is no dict of settings"),
    ({"train": {3: 1}}, "train: 3 is no name of a setting: give a text, such as 'lr'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_no_name_is_told_with_the_fix(given, message):
    with pytest.raises(UserError, match=message):
        compare(**{"methods": ["Baseline"], **HERE, **given})


def test_the_same_in_a_search():
    for given, message in (
        ({"method": 3}, "methods: 3 is no method"),
        ({"model": NETWORK}, "model: Linear"),
        ({"data": 3}, "data: 3 is no name"),
        ({"space": [1]}, r"space: \[1\] is no dict of settings"),
        ({"space": {3: [1]}}, "space: 3 is no name of a setting"),
    ):
        with pytest.raises(UserError, match=message):
            sweep(**{"space": {"lr": [1]}, **given})


def test_the_same_in_improve():
    for given, message in (
        ({"methods": [3]}, "methods: 3 is no method"),
        ({"model": NETWORK}, "model: Linear"),
        ({"data": {"train": 1}}, "data: {'train': 1} is no name.*a folder"),
        ({"train": ["x"]}, r"train: \['x'\] is no dict of settings"),
        ({"train": {3: 1}}, "train: 3 is no name of a setting"),
    ):
        with pytest.raises(UserError, match=message):
            improve(**{"data": "digits", "model": "resnet8", "dry_run": True, **given})
