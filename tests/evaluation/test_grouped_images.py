"""Images of one patient are no independent ones: every score on test images has the interval of their groups."""

import itertools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data import load
from classmates.deployment import measuring
from classmates.deployment.export import export
from classmates.deployment.measuring import paired_difference
from classmates.evaluation import transfer as module
from classmates.evaluation.evaluate import evaluate, student_predictions
from classmates.evaluation.transfer import transfer
from classmates.experiments.judging import on_test
from classmates.runs.folder import read_record, stored_settings
from classmates.tasks.classification import Classification
from classmates.tasks.metrics import accuracy_interval
from classmates.training.train import train

PATIENTS, VIEWS = 24, 4
HERE = {"accelerator": "cpu", "num_workers": 0}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A table of four images of each patient, half of them for testing; brightness tells the class but of a few."""
    folder = tmp_path_factory.mktemp("scans")
    draw, rows = np.random.default_rng(0), ["file,label,patient_id,split"]
    for patient, view in itertools.product(range(PATIENTS), range(VIEWS)):
        bright = patient % 2
        pixels = draw.integers(0, 120, (8, 8)) + 100 * bright
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{patient}-{view}.png")
        label, part = "ab"[1 - bright if patient % 5 == 0 else bright], ("train", "test")[patient // 2 % 2]
        rows.append(f"{patient}-{view}.png,{label},P{patient},{part}")
    (folder / "scans.csv").write_text("\n".join(rows))
    return folder / "scans.csv"


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    quick = {"epochs": 1, "batch_size": 8, "val_fraction": 0.25, "loggers": (), "report": False, "progress": False}
    quick |= {"precision": "32-true", "memory_format": "contiguous"}
    return train(scans, "resnet8", out=tmp_path_factory.mktemp("runs") / "run", **quick, **HERE).folder


@pytest.fixture(scope="module")
def split(scans):
    """The test images, those of a patient in one group."""
    found = load(scans, val_fraction=0.25).test
    assert (len(found), found.groups.unique().numel()) == (PATIENTS * VIEWS // 2, PATIENTS // 2)
    return found


@pytest.fixture(scope="module")
def right(run):
    """Whether the student is right, of each test image."""
    found = student_predictions(run, task=Classification(), **HERE)
    return found.logits["student"].argmax(1) == found.labels


def ends(metric):
    return metric.low, metric.high


def interval(right, split):
    """That of images in groups, which is another than that of as many independent ones."""
    found = accuracy_interval(right, split.groups)
    assert found != pytest.approx(accuracy_interval(right), abs=1e-3)
    return pytest.approx(found)


def test_in_a_runs_own_scores(run, scans, right, split):
    record = read_record(run / "result.json")
    assert ends(record.test["student"]["top1"]) == interval(right, split)
    held_out = load(scans, val_fraction=0.25).val
    answers = student_predictions(run, task=Classification(), split="val", **HERE)
    of_validation = answers.logits["student"].argmax(1) == answers.labels
    assert ends(record.validation.last.scores["student"]["top1"]) == interval(of_validation, held_out)


def test_in_scores_of_a_student(run, right, split):
    assert ends(evaluate(run, **HERE)["top1"]) == interval(right, split)


def test_in_scores_of_its_features(run, scans, split, monkeypatch):
    answers = {}  # the last of each, which are of test images

    def kept(real, *given):
        answers[real.__name__] = real(*given)
        return answers[real.__name__]

    for real in (module.nearest_classes, module.log_probabilities):
        monkeypatch.setattr(module, real.__name__, partial(kept, real))
    scores = transfer(run, scans, neighbours=5, val_fraction=0.25, **HERE)
    nearest = torch.from_numpy(answers["nearest_classes"]) == split.labels
    linear = torch.from_numpy(answers["log_probabilities"]).argmax(1) == split.labels
    assert ends(scores["nearest"]["top1"]) == interval(nearest, split)
    assert ends(scores["linear"]["top1"]) == interval(linear, split)


def test_in_the_table_of_an_export(run, right, split, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "MOST_SECONDS", 0.0)
    turned = split.groups % 3 == 0  # the patients of whom a file is to say the other class
    real, asked = measuring.Images.answers, []

    def answers(images, runner, size, name, *part):
        given, labels = real(images, runner, size, name, *part)
        asked.append(name)
        return (given if name == "student" else torch.where(turned[:, None], given.flip(1), given)), labels

    monkeypatch.setattr(measuring.Images, "answers", answers)
    student, file = export(run, formats=["torch"], out=tmp_path / "files", most_lost=1).rows
    assert asked == ["student", "torch"]
    assert ends(student) == interval(right, split)
    others = right ^ turned
    assert ends(file) == interval(others, split)
    found = paired_difference(others, right, split.groups)
    assert found != pytest.approx(paired_difference(others, right), abs=1e-3)
    assert (file.difference, file.difference_low, file.difference_high) == pytest.approx(found)


def test_in_the_verdict_of_a_search(run, right, split):
    settings = stored_settings(run) | HERE
    ledger, job = SimpleNamespace(run_folder=lambda job: run), SimpleNamespace(settings=settings)
    found = on_test(ledger, [job, job], job)
    assert (found.outcomes == right.numpy()).all()
    assert found.predictions.groups.tolist() == split.groups.tolist()
