"""The recipes of the papers' tables: they can be run, and hold what is printed."""

import inspect
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
import timm
import torch

from classmates import methods
from classmates._files import recipes_folder
from classmates.comparisons.drawings import FIGURES
from classmates.comparisons.recipe import Recipe, load_recipe
from classmates.contracts import Batch
from classmates.data import NAMES, EpochSampler
from classmates.experiments.plan import choose, jobs_of
from classmates.methods.teacher_method import TeacherMethod
from classmates.networks.building.build import build_model
from classmates.networks.building.complexity import multiply_adds
from classmates.runs.student import StudentCard, save_student
from classmates.runs.task_spec import task_of
from classmates.tasks.few_shot import FewShot
from classmates.training.optimisation import make_optimizer, make_schedule
from classmates.training.train import train

PAPERS = recipes_folder() / "papers"
NAMES_OF_RECIPES = sorted(file.relative_to(PAPERS).with_suffix("").as_posix() for file in PAPERS.rglob("*.yaml"))
DOCS = Path(__file__).resolve().parents[2] / "docs"

# Rows for which nothing is printed; recipes of cost have no accuracies at all.
NOT_PRINTED = {
    "corsd/cost": {"Baseline", "CORSD"},
    "corsd/figure2": {"+RN", "+RN +AC"},
    "corsd/figure3": {f"{name}={value}" for name, values in {
        "alpha": (0.02, 0.05, 0.1),
        "beta": (0.02, 0.05, 0.1),
        "sigma": (0.02, 0.05, 0.1),
        "gamma_p": (0.05, 0.1, 0.5),
        "gamma_n": (0.02, 0.1, 0.2),
        "lam": (0.2, 0.4, 0.6),
    }.items() for value in values},
    "mcl-okd/ablation": {"+DOT"},
    "mcl-okd/complexity": {"Baseline", "without contrast", "MCL-OKD"},
    "mcl-okd/table4_1shot": {"Global classifier"},
    "mcl-okd/table4_5shot": {"Global classifier"},
}  # fmt: skip
ON_DIGITS = {
    "mcl-okd/table4_1shot": {"way": 4, "eval_way": 2},
    "mcl-okd/table4_5shot": {"way": 4, "eval_way": 2},
}
"""The options of the task with which a recipe can be planned on digits, of which eight are for training."""

# What the papers print beside their method's values: by how much it is better than the best other one.
PRINTED_GAINS = {
    "corsd/table1": [1.20, 0.62, 0.05, 0.86, 0.99, 0.84, 1.98, 0.80, 0.96, 0.12],
    "corsd/table2": [0.43, 0.37, 0.43],
    "corsd/table3": [1.52, 1.53, 1.60, 1.55, 1.54, 1.51],
    "mcl-okd/table1": [1.30, 0.40, 0.47, 0.66, 0.26],
    "mcl-okd/table2": [0.79],
    "mcl-okd/table3": [2.47, 0.97, 0.60, 0.37, 0.32],
}


@cache
def recipe_of(name: str) -> Recipe:
    return load_recipe(f"papers/{name}")


def published(name: str, model: str) -> dict[str, float]:
    """The printed values of one model by row, without their spread."""
    values = recipe_of(name).published[model]
    return {row: float(str(value).partition("±")[0]) for row, value in values.items()}


def column(name: str, row: str) -> list[float]:
    """The printed values of one row over all models."""
    return [published(name, model)[row] for model in recipe_of(name).models]


@pytest.fixture
def teachers(tmp_path, monkeypatch):
    """The folders that recipes take teachers from, with one that has learnt nothing, for digits of 8x8 pixels."""
    card = StudentCard("resnet8", tuple("0123456789"), (1, 8, 8), (0.5,), (0.5,), (8, 8), {"in_chans": 1})
    network = build_model("resnet8", 10, 1)
    for name in ("corsd-teacher-cifar100", "corsd-teacher-cub200"):
        save_student(tmp_path / "runs" / name, network, card)
    few_shot = replace(card, class_names=tuple("abcdefgh"), output="embedding")
    for name in ("few-shot-teacher-1shot", "few-shot-teacher-5shot"):
        save_student(tmp_path / "runs" / name, build_model("resnet8", 0, 1), few_shot)
    monkeypatch.chdir(tmp_path)


def settings_of(recipe: Recipe, row: str) -> dict:
    """What a row says, over what all rows have in common."""
    settings = {**recipe.settings, **recipe.rows[row]}
    task = recipe.settings.get("task")
    if task is not None and "task" in recipe.rows[row]:
        settings["task"] = {**task, "init_args": task["init_args"] | recipe.rows[row]["task"]}
    return settings


def on_digits(name: str) -> dict:
    """What has to be changed of a recipe for digits."""
    options = ON_DIGITS.get(name)
    if options is None:
        return {}
    task = recipe_of(name).settings["task"]["init_args"]
    batch = options["way"] * (task["shot"] + task["queries"])
    augmentation = {"crop_scale": None}  # digits are kept in memory
    return {"task": options, "batch_size": batch, "augmentation": augmentation, "keep": "last", "patience": None}


@pytest.mark.parametrize("name", NAMES_OF_RECIPES)
def test_every_recipe_can_be_run_and_holds_what_is_printed(name, teachers):
    recipe = recipe_of(name)
    # It says what it is and where it departs.
    assert all([recipe.title, recipe.source, recipe.notes, recipe.reference])
    # Models, data and figures are known.
    assert all(timm.is_model(model) for model in recipe.models)
    assert set(recipe.data) <= set(NAMES)
    assert set(recipe.figures) <= set(FIGURES)
    # Settings are those of train and of the method.
    for row, settings in recipe.rows.items():
        assert settings_of(recipe, row).keys() <= inspect.signature(train).parameters.keys(), row
        kind = method_of(settings)
        assert settings["method"].get("init_args", {}).keys() <= inspect.signature(kind).parameters.keys(), row
    # Nothing is held out, for nobody chooses among epochs.
    assert recipe.settings["val_fraction"] == 0
    # Every model has a printed value in every row.
    printed = set(recipe.rows) - NOT_PRINTED.get(name, set())
    assert NOT_PRINTED.get(name, set()) <= set(recipe.rows)
    expected = dict.fromkeys(recipe.models, printed) if printed else {}
    assert {model: set(values) for model, values in recipe.published.items()} == expected
    # Its runs can be planned.
    planned = choose(f"papers/{name}", [], ["resnet8"], ["digits"], 1, None)
    jobs = jobs_of(planned, {"image_size": 8, **on_digits(name)})
    assert [job.row for job in jobs] == list(planned.rows)
    assert len({job.identity.key for job in jobs}) == len(jobs)


@pytest.mark.parametrize("name", PRINTED_GAINS)
def test_the_printed_gains_are_those_of_the_values(name):
    recipe = recipe_of(name)
    of_paper = list(recipe.rows)[-1]
    gains = []
    for model in recipe.models:
        values = published(name, model)
        own = values.pop(of_paper)
        best = min(values.values()) if recipe.score.as_ == "error" else max(values.values())
        gains.append(round(abs(own - best), 2))
        assert own < best if recipe.score.as_ == "error" else own > best
    assert gains == pytest.approx(PRINTED_GAINS[name])


def test_the_averages_that_the_texts_give():
    gain = fmean(column("corsd/table1", "CORSD")) - fmean(column("corsd/table1", "Baseline"))
    assert gain == pytest.approx(3.8, abs=0.1)
    gain = fmean(column("corsd/table3", "CORSD")) - fmean(column("corsd/table3", "RKD"))
    assert gain == pytest.approx(1.54, abs=0.005)
    gain = fmean(column("mcl-okd/table1", "OKDDip")) - fmean(column("mcl-okd/table1", "MCL-OKD"))
    assert gain == pytest.approx(1.84, abs=0.005)
    baseline = published("mcl-okd/table2", "resnet34")["Baseline"]
    ensemble = published("mcl-okd/table2_ensemble", "resnet34")["MCL-OKD"]
    assert baseline - ensemble == pytest.approx(2.17)


def test_the_same_experiment_has_the_same_published_value_everywhere():
    first = published("corsd/table1", "resnet18_cifar")
    assert published("corsd/figure3", "resnet18_cifar").items() <= first.items()
    fourth = published("corsd/table4", "resnet18_cifar")
    assert (fourth["Baseline"], fourth["CORSD"]) == (round(first["Baseline"], 1), round(first["CORSD"], 1))
    for model in recipe_of("mcl-okd/table1").models:
        ablated = published("mcl-okd/ablation", model)
        assert {row: published("mcl-okd/table1", model)[row] for row in ("Baseline", "MCL-OKD")}.items() <= (
            ablated.items()
        )


@pytest.mark.parametrize(
    ("name", "whole", "shared"),
    [
        ("corsd/table4", "corsd/table1", {"Baseline", "CORSD"}),
        ("corsd/figure3", "corsd/table1", {"Baseline", "PS-KD", "CORSD"}),
        ("mcl-okd/table3", "mcl-okd/table1", {"DML", "CL-ILR", "ONE", "OKDDip", "MCL-OKD"}),
        ("mcl-okd/ablation", "mcl-okd/table1", {"Baseline", "MCL-OKD"}),
        ("mcl-okd/table2_ensemble", "mcl-okd/table2", {"MCL-OKD"}),
    ],
)
def test_runs_that_tables_have_in_common_are_made_once(name, whole, shared, teachers):
    planned = []
    for one in (name, whole):
        jobs = jobs_of(choose(f"papers/{one}", [], ["resnet8"], ["digits"], 1, None), {"image_size": 8})
        planned.append({job.name for job in jobs})
    assert len(planned[0] & planned[1]) == len(shared)
    assert recipe_of(name).models_settings.keys() == recipe_of(whole).models_settings.keys()


def method_of(row: dict) -> type[methods.Method]:
    return getattr(methods, row["method"]["class_path"].removeprefix("classmates."))


def every_row() -> list[tuple[str, str]]:
    return [(name, row) for name in NAMES_OF_RECIPES for row in recipe_of(name).rows]


@pytest.mark.filterwarnings("ignore:num_negatives")
@pytest.mark.parametrize(("name", "row"), every_row(), ids=lambda part: part.replace(" ", ""))
def test_the_first_step_of_every_row(name, row, tiny_network, tiny_data):
    """With the row's own method, options, kind of batches, optimiser and schedule, on 36 small images of noise."""
    settings = settings_of(recipe_of(name), row)
    kind, task = method_of(settings), task_of(settings.get("task"))
    options = dict(settings["method"].get("init_args", {}))
    if issubclass(kind, TeacherMethod) and kind.needs_teacher:
        assert options["teacher"].startswith(("runs/corsd-teacher-", "runs/few-shot-teacher-"))
        options["teacher"] = task.deployed(task.training_network(tiny_network(seed=9), 4, tiny_data.input_shape))
    task.sampling.check_batch_size(settings["batch_size"])
    batch_size = 24
    if isinstance(task, FewShot):
        task = replace(task, way=4, shot=2, queries=4)
    data = replace(tiny_data, task=task)
    method = kind(tiny_network(widths=(4, 8, 16, 32)), data, **options)
    method.sampling.check_batch_size(batch_size if isinstance(task, FewShot) else settings["batch_size"])

    indices = torch.tensor(next(iter(EpochSampler(method.sampling, tiny_data.labels, batch_size))))
    images = torch.randn(len(indices), *tiny_data.input_shape, generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(settings["optimizer"], method.parameters(), settings["lr"], settings["optimizer_args"])
    make_schedule(settings["schedule"], optimizer, settings.get("schedule_args", {}), epochs=2, steps_per_epoch=2)
    before = [parameter.clone() for parameter in method.student().parameters()]
    total = method(Batch(images, tiny_data.labels[indices], indices)).total
    total.backward()
    optimizer.step()
    assert total.isfinite()
    assert any((old != new).any() for old, new in zip(before, method.student().parameters(), strict=True))


IMAGES = {
    "cifar100": (50_000, 100, 32),
    "imagenet": (1_281_167, 1000, 224),
    "cub200": (5_994, 200, 224),
    "mini-imagenet": (38_400, 64, 84),
}


@cache
def small_costs() -> dict[str, int]:
    """Multiply-adds of the papers' small networks, as the page on models has them."""
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    cells = re.findall(r"`(\w+)`[^|]*\| [\d,]+ \| ([\d,]+) ", page)
    return {name: int(count.replace(",", "")) for name, count in cells}


@cache
def cost_of(model: str, data: str) -> int:
    """Multiply-adds of one image through a network."""
    _, classes, size = IMAGES[data]
    if size == 32:
        return small_costs()[model]
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=classes)
    return multiply_adds(network, (3, size, size))


def counted(name: str) -> tuple[str, str, str]:
    """Runs, millions of images seen, and 10¹⁵ multiply-adds of the student alone, forward and backward."""
    recipe = recipe_of(name)
    (data,) = recipe.data
    seen = operations = 0
    for model in recipe.models:
        for row in recipe.rows:
            settings = settings_of(recipe, row)
            task = task_of(settings.get("task"))
            epoch = settings["batch_size"] * task.episodes if isinstance(task, FewShot) else IMAGES[data][0]
            images = settings["epochs"] * epoch * len(recipe.seeds)
            images *= 1 + (method_of(recipe.rows[row]) is methods.CSKD)  # partners are read beside the anchors
            seen += images
            operations += 3 * images * cost_of(model, data)
    runs = len(recipe.models) * len(recipe.rows) * len(recipe.seeds)
    return f"{runs:,}", f"{seen / 1e6:,.0f}", f"{operations / 1e15:,.0f}"


def test_the_page_has_every_recipe_and_its_counts():
    page = (DOCS / "papers.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `papers/(\S+)` \|.*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert {name: tuple(counts) for name, *counts in lines} == {name: counted(name) for name in NAMES_OF_RECIPES}
