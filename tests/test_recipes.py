"""Every recipe is one that ``train`` understands, and every method has a published and a common one."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from classmates import methods
from classmates.catalog import methods as methods_by_name
from classmates.comparisons.recipe import Recipe
from classmates.configuration.arguments import arguments_of
from classmates.configuration.settings import Settings
from classmates.experiments.plan import typed_settings
from classmates.training.train import train

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
COMMON = RECIPES / "common.yaml"
FILES = sorted(file for file in RECIPES.glob("*.yaml") if file != COMMON)

COMMON_OPTIONS = {
    "Baseline": {},
    "BornAgain": {"generations": 2, "temperature": 1.0, "distillation": 1.0},
    "LabelSmoothing": {"epsilon": 0.1},
    "DeepSupervision": {"weight": 1.0, "depths": 4, "attention": True},
    "SD": {"alpha": 0.3, "lam": 0.03, "temperature": 3.0, "scale": False, "distance": "norm", "skip": "deepest"},
    "TfKD": {"teacher": None, "alpha": 0.1, "temperature": 20.0, "multiplier": 1.0, "correct": 0.99},
    "PSKD": {"alpha": 0.8},
    "CSKD": {"lam": 1.0, "temperature": 4.0},
    "CORSD": {
        "alpha": 0.01,
        "beta": 0.01,
        "sigma": 0.01,
        "gamma_p": 0.2,
        "gamma_n": 0.05,
        "lam": 0.8,
        "projection": "reduced",
    },
    "DML": {"peers": 2, "temperature": 1.0, "share": "nothing"},
    "CLILR": {"peers": 4, "hard": 0.5, "temperature": 2.0},
    "ONE": {"peers": 3, "share": -1, "temperature": 3.0, "ramp": 80},
    "OKDDip": {"peers": 4, "share": -1, "temperature": 3.0, "ramp": 80},
    "MCLBatch": {
        "peers": 2,
        "share": "nothing",
        "within": 0.1,
        "soft_within": 1.0,
        "across": 0.1,
        "soft_across": 1.0,
    },
    "PCL": {"peers": 3, "share": -1, "views": "own", "temperature": 3.0, "ramp": 80, "decay": 0.999},
    "BAKE": {"lam": 1.0, "temperature": 4.0, "omega": 0.5, "intra": 3},
    "DLB": {"alpha": 1.0, "temperature": 3.0},
    "ZipfLS": {"smoothing": 0.1, "upsample": 2, "ranking": "auto"},
    "MCL": {"peers": 4, "share": -2, "temperature": 3.0, "beta": 0.025, "num_negatives": 256},
    "AT": {"teacher": "runs/common-teacher", "attention": 1000.0},
    "CC": {"teacher": "runs/common-teacher", "correlation": 100.0, "class_uniform": True},
    "FitNet": {"teacher": "runs/common-teacher", "hint": 100.0, "hint_epochs": 0},
    "CRD": {"teacher": "runs/common-teacher", "beta": 0.8, "num_negatives": 16384, "temperature": 0.07},
    "DIST": {"teacher": "runs/common-teacher", "temperature": 4.0, "inter": 2.0, "intra": 2.0},
    "ReviewKD": {"teacher": "runs/common-teacher", "review": 1.0, "warmup": 20},
    "KD": {"teacher": "runs/common-teacher", "temperature": 4.0, "ce": 0.1, "distillation": 0.9},
    "DKD": {"teacher": "runs/common-teacher", "ce": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 20},
    "RKD": {"teacher": "runs/common-teacher", "distance": 25.0, "angle": 50.0},
    "SP": {"teacher": "runs/common-teacher", "similarity": 3000.0},
}
"""What the common recipe says of each method, written out."""
SHARED = {
    "epochs": 200,
    "lr": 0.1,
    "optimizer": "SGD",
    "optimizer_args": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
    "schedule": "CosineAnnealingLR",
    "val_fraction": 0,
}
OF_ONE = {
    "BornAgain": {"schedule": "CosineAnnealingWarmRestarts", "schedule_args": {"T_0": 100}},
    "CORSD": {"batch_size": 129},
    "CSKD": {"batch_size": 256},
    "DLB": {"epochs": 100},
}
"""What it says of single methods beside their options."""


SAID = {file.name: yaml.safe_load(file.read_text()) for file in FILES}
"""What each recipe says."""


def test_their_keys_are_arguments():
    unknown = {}
    for name, recipe in SAID.items():
        method = getattr(methods, recipe["method"]["class_path"].removeprefix("classmates."))
        keys = recipe.keys() - inspect.signature(train).parameters.keys()
        options = recipe["method"].get("init_args", {}).keys() - inspect.signature(method).parameters.keys()
        if keys | options:
            unknown[name] = keys | options
    assert unknown == {}


def test_what_is_published_was_trained_in_32_bits():
    """As the tables of both papers have it; not whatever is fastest on the machine at hand."""
    precisions = {name: recipe.get("precision") for name, recipe in SAID.items() if name != "demo.yaml"}
    assert {name: precision for name, precision in precisions.items() if precision != "32-true"} == {}


def test_every_method_has_its_published_recipe():
    found = {recipe["method"]["class_path"] for recipe in SAID.values()}
    assert {f"classmates.{name}" for name in methods_by_name() if name != "Combined"} <= found


def test_the_common_recipe_names_methods_that_there_are():
    assert yaml.safe_load(COMMON.read_text())["methods"].keys() <= methods_by_name().keys()
    assert COMMON_OPTIONS.keys() == methods_by_name().keys() - {"Combined"}


@pytest.mark.parametrize("name", COMMON_OPTIONS)
def test_the_common_recipe_of_a_method(name):
    expected = {**SHARED, "batch_size": 128, **OF_ONE.get(name, {})}
    recipe = Recipe(base="common", rows={name: {"method": {"class_path": f"classmates.{name}"}}})
    compared = typed_settings(recipe, name, "resnet8", "digits", {})
    trained = Settings("train", arguments_of(train))
    trained.add_file(COMMON, method=name)
    trained.add_flags([("method", name)])
    typed = trained.typed()
    for settings in (compared, typed):
        method = settings["method"].plain()
        assert {key: settings[key] for key in expected} == expected
        assert method["class_path"] == f"classmates.{name}"
        assert {key: method["init_args"][key] for key in COMMON_OPTIONS[name]} == COMMON_OPTIONS[name]
    assert (typed["data"], typed["model"]) == ("cifar100", "resnet32")


def test_flags_go_over_what_a_file_says_of_a_method(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("batch_size: 10\nmethods: {MCL: {batch_size: 20, method: {init_args: {peers: 3}}}}\n")
    settings = Settings("train", arguments_of(train))
    settings.add_file(file, method="MCL")
    settings.add_flags([("method", "MCL"), ("batch_size", "30")])
    typed = settings.typed()
    assert typed["batch_size"] == 30
    assert typed["method"].options == {"peers": 3}
    other = Settings("train", arguments_of(train))
    other.add_file(file)
    assert other.typed()["batch_size"] == 10


def test_a_teacher_of_repdistillers_is_its_own():
    """Its ResNet-110 is of basic blocks; ONE's, which ``resnet110`` is, of bottlenecks.

    Looked at are the recipes of RepDistiller's settings, and of those who took them over.
    """
    milestones = {name: recipe.get("schedule_args", {}).get("milestones") for name, recipe in SAID.items()}
    names = [name for name, found in milestones.items() if found in ([150, 180, 210], [151, 181, 211])]
    assert names
    told = re.compile(r"--method Baseline --model (resnet110_basic|resnet56) --out")
    assert [name for name in names if not told.search((RECIPES / name).read_text())] == []
