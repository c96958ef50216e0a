"""Code that a run's folder names is run by nobody who does not say so."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import classmates
from classmates.cli import main
from classmates.errors import UserError
from classmates.models import resnet8
from classmates.runs.student import StudentCard, load_student, save_student
from classmates.runs.trust import check_trusted

OWN = """
from classmates.tasks.classification import Classification

open("ran", "a").close()


class Own(Classification):
    pass
"""
CARD = StudentCard("resnet8", tuple("0123456789"), (1, 8, 8), (0.5,), (0.2,), (8, 8), {"in_chans": 1})


@pytest.fixture
def run(finished_run, tmp_path, monkeypatch):
    """Somebody's run in the working folder, with a Python file of theirs in it."""
    folder = shutil.copytree(finished_run, tmp_path / "downloaded")
    torch.manual_seed(0)
    save_student(folder, resnet8(num_classes=10, in_chans=1), CARD)
    (folder / "own.py").write_text(OWN)
    for number, name in enumerate(("support/one", "support/other")):
        (tmp_path / name).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    monkeypatch.chdir(tmp_path)
    return folder


def name_task(run, task):
    settings = {"data": "digits", "data_dir": None, "label": None, "image_size": None, "train_size": None}
    settings |= {"val_fraction": 0.1, "seed": 0, "on_bad_image": "error", "batch_size": 200, "task": task}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


USES = {
    "evaluate": lambda **more: classmates.evaluate("downloaded", accelerator="cpu", **more),
    "formats": lambda **more: classmates.export("downloaded", formats=["torch"], threads=1, **more),
    "support": lambda **more: classmates.predict("downloaded", ["support"], support="support", **more),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("task", "code"),
    [
        ("downloaded/own.py:Own", "file 'downloaded/own.py'"),
        ({"class_path": "downloaded/own.py:Own", "init_args": {}}, "file 'downloaded/own.py'"),
        ({"class_path": "downloaded.own.Own"}, "module 'downloaded.own'"),
        ({"class_path": "downloaded/own.py"}, "file 'downloaded/own.py'"),
        ({"class_path": "classmates.tasks.own.Own"}, "module 'classmates.tasks.own'"),
    ],
)
def test_a_task_of_the_settings_is_not_run(run, use, task, code):
    name_task(run, task)
    with pytest.raises(UserError, match=f"the task of the run in 'downloaded' is built by the Python {code}, which"):
        USES[use]()
    assert not (run.parent / "ran").exists()


@pytest.mark.parametrize("use", USES)
def test_a_task_that_is_trusted_is(run, use, monkeypatch):
    monkeypatch.setattr("classmates.deployment.measuring.MOST_SECONDS", 0.0)
    name_task(run, {"class_path": "downloaded/own.py:Own"})
    USES[use](trust_code=True)
    assert (run.parent / "ran").exists()


@pytest.mark.parametrize(
    "task", [None, "classification", "classmates.Classification", {"class_path": "Classification"}]
)
def test_a_task_of_this_package_needs_no_trust(run, task):
    name_task(run, task)
    assert USES["evaluate"]()["top1"].count == 797


@pytest.mark.parametrize("own", ["model", "task", None])
def test_the_command_to_go_on_with_says_whether_own_code_is_run(run, own, monkeypatch, capsys):
    monkeypatch.setattr("classmates.deployment.measuring.MOST_SECONDS", 0.0)
    (run / "net.py").write_text("from classmates.models import resnet8 as Net\n")
    if own == "model":
        network = load_student("downloaded")[0]
        save_student(run, network, replace(CARD, model=f"{run / 'net.py'}:Net"))
    name_task(run, "downloaded/own.py:Own" if own == "task" else None)
    told = classmates.export("downloaded", formats=["torch"], threads=1, trust_code=True).next
    assert told == "next: classmates predict downloaded IMAGES" + (" --trust_code true" if own else "")
    assert main(told.replace("IMAGES", "support/one").split()[2:]) == 0
    assert "support/one/0.png" in capsys.readouterr().out


def test_what_would_be_run_is_named():
    for name, code in (("a/b.py:C", "file 'a/b.py'"), ("a/b.py", "file 'a/b.py'"), ("a.b.C", "module 'a.b'")):
        with pytest.raises(
            UserError, match=f"it is built by the Python {code}, which would be run: .*trust_code=True"
        ):
            check_trusted("it", name, trusted=False)
        check_trusted("it", name, trusted=True)
