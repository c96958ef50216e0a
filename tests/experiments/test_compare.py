"""Comparisons with real, tiny runs: what is repeated, what failed and why, and other versions."""

import json
import os
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from classmates.comparisons.recipe import Recipe
from classmates.errors import UserError
from classmates.experiments import workers
from classmates.experiments.compare import Comparison, asked, compare, default_name
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job, choose
from classmates.experiments.preview import Plan
from classmates.experiments.records import read_runs
from classmates.experiments.report import report
from classmates.networks.building.build import build_model
from classmates.training.module import TrainingModule
from tests.fixtures.small_comparison import TINY, every_run, states


def test_every_run_is_a_folder_of_train_and_a_line(small):
    comparison = small("Baseline", "DML")
    assert states(comparison) == [("Baseline", 0, "done"), ("DML", 0, "done")]
    for run in comparison.runs.itertuples():
        record = json.loads((Path(run.folder) / "result.json").read_text())
        assert run.student == record["test"]["student"]["top1"]["value"]
        assert (run.epochs, run.steps, run.image_passes) == (2, 4, 80)
        assert (Path(run.folder) / "student.safetensors").exists()
    assert comparison.runs["ensemble"].notna().tolist() == [False, True]
    pd.testing.assert_frame_equal(every_run(comparison.folder), comparison.runs)


@pytest.mark.parametrize("asked_for", [{}, {"report": True}], ids=["by itself", "asked for"])
def test_runs_have_a_report_of_their_own_only_where_it_is_asked_for(asked_for, tmp_path):
    settings = {name: value for name, value in TINY.items() if name != "report"} | asked_for
    compare(["Baseline"], seeds=1, recipe="none", workers=0, train=settings, out=tmp_path / "out")
    pages = [page.relative_to(tmp_path / "out").as_posix() for page in tmp_path.glob("out/runs/*/report.html")]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="(runs/[^"]*/report.html)"', page)
    assert len(pages) == len(asked_for)
    assert links == pages


def test_what_is_done_is_not_repeated_and_more_seeds_are_added(small):
    first = small(seeds=1)
    assert len(small.made) == 1
    more = small(seeds=[0, 4])
    assert [Path(folder).name for folder in small.made] == [more.plan[1].name]
    assert more.runs["student"][0] == first.runs["student"][0]


def test_other_settings_and_other_code_are_marked_and_not_mixed(small, monkeypatch):
    small()
    changed = small(train={"lr": 0.01})
    assert states(changed) == [("Baseline", 0, "done"), ("Baseline", 0, "other settings")]
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "newer")
    monkeypatch.setattr(workers, "code_version", lambda settings: "newer")
    assert small(dry_run=True).jobs[0].identity.code == "newer"
    newer = small()
    assert len(small.made) == 1
    assert sorted(status for _, _, status in states(newer)) == ["done", "other settings", "other version"]
    assert "1 finished runs of other version" in str(newer)


def test_another_version_is_taken_on_request(small, monkeypatch):
    first = small()
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "newer")
    again = small(any_version=True)
    assert small.made == []
    assert states(again) == states(first)


def test_a_ledger_of_an_earlier_version_is_read(small, monkeypatch):
    """Its code was hashed in another way, and rows with a path among their options were named after it."""
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "a hash of every file")
    monkeypatch.setattr(workers, "code_version", lambda settings: "a hash of every file")
    monkeypatch.setattr(Job, "name", property(lambda job: f"t-resnet8-digits-{job.seed}-{job.identity.key}"))
    old = small()
    monkeypatch.undo()
    seen = every_run(old.folder)
    assert seen["status"].tolist() == ["done"]
    assert Path(seen["folder"][0]).name.startswith("t-resnet8")
    plan = small_again(old.folder)
    assert plan.ledger.status(plan.jobs[0]) == "waiting"
    assert read_runs(plan.ledger, plan.jobs)["status"].tolist() == ["waiting", "other version"]
    taken = small_again(old.folder, any_version=True)
    assert [(job.name, taken.ledger.status(job)) for job in taken.jobs] == [(Path(seen["folder"][0]).name, "done")]


def test_runs_of_another_version_stand_where_this_command_names_their_data(small, monkeypatch, tmp_path):
    first = small()
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "newer")
    [job] = small(dry_run=True).jobs
    asked = replace(job, data=f"{tmp_path}/moved/digits", model="resnet8")
    taken = Ledger(first.folder).same_elsewhere(asked)
    assert (taken.data, taken.name) == (asked.data, first.plan[0].name)


def small_again(folder, **arguments):
    return compare(["Baseline"], seeds=1, recipe="none", train=TINY, out=folder, dry_run=True, **arguments)


def test_of_several_versions_the_present_one_or_else_the_newest_is_taken(small, monkeypatch):
    newest = None
    for version in ("b", "a", "c"):
        monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings, version=version: version)
        monkeypatch.setattr(workers, "code_version", lambda settings, version=version: version)
        newest = small().plan[0]
    assert small(any_version=True).plan == [newest]
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "d")
    assert small(any_version=True).plan == [newest]
    monkeypatch.setattr("classmates.experiments.plan.code_version", lambda settings: "a")
    assert small(any_version=True).plan[0].identity.code == "a"


def test_a_table_is_of_its_own_command_whatever_another_one_planned(small, monkeypatch):
    def run_all(ledger, jobs, *others):
        module.run_all(ledger, jobs, *others)
        ledger.write_plan(Recipe(title="another"), [])

    module = import_module("classmates.experiments.running")
    monkeypatch.setattr("classmates.experiments.compare.run_all", run_all)
    assert states(small()) == [("Baseline", 0, "done")]


def test_a_file_that_changes_before_its_run_is_told(small, tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger")
    weights = tmp_path / "weights.pt"
    torch.save(build_model("resnet8", 10, 1).state_dict(), weights)
    [job] = small(train={"model_weights": str(weights)}, dry_run=True).jobs
    ledger.add([job])
    weights.write_bytes(b"22")
    workers.run_job(ledger.folder, job.name)
    assert "a file that the settings name has changed" in ledger.failure(job)["error"]
    assert small.made == []


def test_what_may_differ_is_taken_from_the_last_command(small, tmp_path):
    [job] = small(dry_run=True).jobs
    ledger = Ledger(tmp_path / "ledger")
    ledger.add([job])
    other = replace(job, settings={**job.settings, "num_workers": 3, "report": True}, data="elsewhere/digits")
    assert other.name == job.name
    ledger.add([other])
    assert ledger.job(job.name).settings["num_workers"] == 3
    with ledger.claim(job):
        ledger.add([job])
    assert ledger.job(job.name) == other  # it is running, as it began


def test_a_run_goes_on_where_its_images_lie_now(tmp_path, monkeypatch):
    def stopped(module):
        if module.current_epoch:
            raise KeyboardInterrupt

    for shade, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8), (100 * shade + number, 0, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    settings = {**TINY, "train_size": None}

    def again(folder):
        given = {"recipe": "none", "seeds": 1, "data": [str(folder)], "out": tmp_path / "ledger", "workers": 0}
        return compare(["Baseline"], train=settings, **given)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingModule, "on_train_epoch_start", stopped)
        with pytest.raises(KeyboardInterrupt):
            again(tmp_path / "photos")
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    comparison = again(moved)
    assert states(comparison) == [("Baseline", 0, "done")]
    config = Path(comparison.runs["folder"][0]) / "config.yaml"
    assert str(moved) in config.read_text()


def test_recipes_of_long_paths_have_folders_of_their_own():
    longest = "/home/alexander/research/distillation/recipes/"
    names = [default_name(f"{longest}{name}.yaml", None) for name in ("a", "b")]
    assert len(set(names)) == 2
    assert all(len(name) <= 40 for name in names)
    assert default_name("recipes/mine.yaml", None) == "recipes-mine"


def test_comparisons_of_many_methods_have_a_folder_each():
    methods = [f"MCL(peers={peers}, beta=0.0{peers})" for peers in range(2, 9)]
    names = [
        default_name("auto", choose("auto", methods, ["resnet8"], [data], 1, None))
        for data in ("cifar10", "cifar100")
    ]
    assert len({*names}) == 2
    assert max(map(len, names)) == 120
    assert (
        default_name("auto", choose("auto", ["MCL"], ["resnet8"], ["digits"], 1, None)) == "auto-MCL-resnet8-digits"
    )


def test_what_the_command_asked_for_is_noted(small):
    comparison = small()
    recipe, _ = Ledger(comparison.folder).read_plan()
    assert recipe.asked["--train.epochs"] == 2
    assert "--train.batch_size 20" in recipe.headline
    assert asked("passes", {"method": {"peers": 2}}) == {"--budget": "passes", "--train.method.peers": 2}
    assert asked("epochs", {}) == {}


def test_names_that_are_not_utf8(tmp_path):
    photos = tmp_path / os.fsdecode(b"photos \xff")
    for shade, name in enumerate(("cat", "dog")):
        (photos / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8), (100 * shade + number, 0, 0)).save(photos / name / f"{number}.png")
    settings = {**TINY, "train_size": None, "epochs": 1}
    out = tmp_path / os.fsdecode(b"ledger \xfe")
    comparison = compare(["Baseline"], data=[str(photos)], recipe="none", seeds=1, workers=0, out=out, train=settings)
    assert str(comparison.runs["data"][0]).endswith(r"photos \udcff")
    assert r"photos \udcff" in str(comparison)
    page = out / "report.html"
    assert r"photos \udcff" in page.read_text(encoding="utf-8")
    again = page.read_bytes()
    report(out)
    assert page.read_bytes() == again


def test_a_failed_run_stops_no_other_and_is_tried_again(small):
    huge = {"lr": 1e30, "optimizer": "Adam"}  # whose weight decay is 0: nothing can be told before
    comparison = small("Baseline", "DML", train=huge)
    assert [status for _, _, status in states(comparison)] == ["failed", "failed"]
    why = dict(zip(comparison.runs["row"], comparison.runs["failure"], strict=True))
    assert "NonFiniteLoss: the loss term 'ce' is not finite" in why["Baseline"]
    assert "2 of 2 runs failed" in str(comparison)
    small("Baseline", "DML", train=huge)
    assert len(small.made) == 2


@pytest.mark.parametrize(
    ("rows", "published", "said"),
    [
        (["DML"], {}, True),
        (["Baseline", "DML"], {}, False),
        (["DML"], {"resnet8": {"DML": 71.5}}, False),
    ],
    ids=["alone", "with another", "with a published value"],
)
def test_a_row_with_nothing_to_compare_it_with_is_told(rows, published, said, tmp_path, capsys):
    recipe = {"models": ["resnet8"], "data": ["digits"], "published": published}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**recipe, "rows": {row: {"method": row} for row in rows}}))
    compare(recipe=tmp_path / "own.yaml", seeds=1, train=TINY, out=tmp_path / "ledger", dry_run=True)
    assert ("note: one row: " in capsys.readouterr().err) == said


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_cannot_work_is_told_before_anything_is_written(small, dry_run, tmp_path):
    with pytest.raises(UserError, match="row 'KD' with model 'resnet8' on 'digits': KD needs a teacher"):
        small("Baseline", "KD", dry_run=dry_run)
    assert list(tmp_path.iterdir()) == []


def test_the_same_number_of_image_passes(small):
    plan = small("Baseline", "CSKD", budget="passes", train={"epochs": 6}, dry_run=True)
    assert [job.epochs for job in plan.jobs] == [2, 2]
    assert "measure an epoch of each row" in str(plan)
    comparison = small("Baseline", "CSKD", budget="passes", train={"epochs": 6})
    assert comparison.runs["epochs"].tolist() == [6, 3]  # each image and a partner: two passes an epoch
    assert comparison.runs["image_passes"].tolist() == [240, 240]
    assert isinstance(comparison, Comparison)


def test_a_dry_run_writes_nothing_and_learns_from_what_is_done(small, tmp_path):
    plan = small(seeds=2, dry_run=True)
    assert isinstance(plan, Plan)
    assert not (tmp_path / "ledger").exists()
    assert "unknown" in str(plan)
    small(seeds=1)
    text = str(small(seeds=2, dry_run=True))
    assert "1 of 2 runs to do" in text
    assert "about" in text


def test_a_dry_run_says_what_the_rows_are_trained_with(small):
    train = {"epochs": 3, "batch_size": 7}
    plan = small("Baseline", "DML(peers=3)", "Baseline + CutMix", "Baseline (2 x as long)", train=train, dry_run=True)
    said = dict(line.split(": ", 1) for line in str(plan).replace("\n  ", " ").splitlines() if ": " in line)
    assert "batch_size 7" in said["all runs"]
    assert "seed" not in said["all runs"]
    assert said["Baseline"] == "method Baseline(), epochs 3"
    assert said["DML(peers=3)"] == "method DML(peers=3), epochs 3"  # no option that is its default
    assert said["Baseline + CutMix"] == "method Baseline(), epochs 3, augmentation.cutmix 1.0"
    assert said["Baseline (2 × as long)"] == "method Baseline(), epochs 6"
    assert all(len(line) <= 80 or "/" in line for line in str(plan).splitlines())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget": "money"}, "unknown budget 'money'"),
        ({"on": "mars"}, "unknown place 'mars'"),
        ({"workers": -1}, "workers=-1"),
        ({"workers": 0, "on": "ray"}, "workers=0"),
        ({"seeds": []}, "seeds"),
        ({"reference": "MCL"}, "unknown reference 'MCL'"),
        ({"train": {"test": False}}, "row 'Baseline': test is false"),
        ({"train": {"keep": "best", "val_fraction": 0}}, "keep='best': there are no validation images"),
        ({"train": {"patience": 1, "val_fraction": 0}}, "patience=1: there are no validation images"),
    ],
)
def test_wrong_input(given, message, small, tmp_path):
    with pytest.raises(UserError, match=message):
        small(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", ["passes", "steps", "time"])
def test_a_longer_row_has_no_place_in_an_equal_budget(budget, small, tmp_path):
    with pytest.raises(UserError, match=f"row 'Baseline .3 × as long.' with --budget {budget}"):
        small("Baseline", "Baseline (3 x as long)", budget=budget)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_comparison(tmp_path):
    with pytest.raises(UserError, match="holds no comparison"):
        every_run(tmp_path)
    (tmp_path / "comparison.yaml").write_text("recipe: ")
    with pytest.raises(UserError, match="is damaged"):
        every_run(tmp_path)
