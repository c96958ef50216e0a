"""Damage to every file of a comparison: the run is made again or the file is named, and nothing else happens."""

import json
import shutil
from pathlib import Path

import pytest

from classmates.experiments.compare import compare
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import epoch_seconds
from classmates.training.resuming import resumable
from tests.fixtures.small_comparison import every_run


def empty(path):
    path.write_bytes(b"")


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other(path):
    path.write_text("[1, 2]")


def remove(path):
    path.unlink()


def without(*keys):
    def change(path):
        content = json.loads(path.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(content))

    change.__name__ = f"without {'.'.join(keys)}"
    return change


def with_nan(path):
    content = json.loads(path.read_text())
    content["test"]["student"]["top1"]["value"] = float("nan")
    path.write_text(json.dumps(content))


DAMAGE = [
    *(("checkpoints/last.ckpt", how) for how in (empty, cut_off, other, remove)),
    *(("checkpoints/best.ckpt", how) for how in (empty, cut_off, remove)),
    *(("config.yaml", how) for how in (empty, other, remove)),
    *(
        ("result.json", how)
        for how in (empty, cut_off, other, with_nan, without("test"), without("training", "steps"))
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison of one run with validation images."""
    folder = tmp_path_factory.mktemp("damaged") / "ledger"
    settings = {"train_size": 60, "batch_size": 20, "epochs": 1, "accelerator": "cpu", "loggers": [], "report": False}
    return compare(["Baseline"], seeds=1, recipe="none", train=settings, workers=0, out=folder)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it that a test may damage: its ledger and its job."""
    ledger = Ledger(Path(shutil.copytree(finished.folder, tmp_path / "ledger")))
    return ledger, ledger.job(finished.plan[0].name)


@pytest.mark.parametrize(("name", "how"), DAMAGE, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_run_is_made_again(copied, name, how):
    ledger, job = copied
    folder = ledger.run_folder(job)
    if name != "result.json":  # as a run that was interrupted has none yet
        (folder / "result.json").unlink()
    assert resumable(folder)
    how(folder / name)
    assert ledger.result(job) is None
    assert not resumable(folder)
    assert not folder.exists()


@pytest.mark.parametrize("how", [empty, other, remove, lambda path: path.write_bytes(b"epoch,seconds\n1,x")])
def test_a_damaged_table_of_epochs_says_nothing(copied, how):
    ledger, job = copied
    assert len(epoch_seconds(ledger, job)) == 1
    how(ledger.run_folder(job) / "metrics.csv")
    assert epoch_seconds(ledger, job) == []


@pytest.mark.parametrize(
    ("text", "status"),
    [("", "interrupted"), ("[1]", "interrupted"), ("{}", "failed"), ('{"error": 3', "interrupted")],
)
def test_a_damaged_failure_is_one_of_which_nothing_is_known(copied, text, status):
    ledger, job = copied
    (ledger.run_folder(job) / "result.json").unlink()
    ledger.note_failure(job, "no reason")
    assert every_run(ledger.folder)["failure"][0] == "Killed: no reason"
    (ledger.jobs / f"{job.name}.failure.json").write_text(text)
    seen = every_run(ledger.folder)
    assert seen["status"][0] == status
    assert (seen["failure"][0] == "it failed, and the file that says why is damaged") is (status == "failed")


def test_a_run_that_was_trained_further_by_hand_is_not_the_one_that_was_planned(copied):
    ledger, job = copied
    result = ledger.run_folder(job) / "result.json"
    content = json.loads(result.read_text())
    content["epochs"] = content["training"]["epochs"] = 2
    result.write_text(json.dumps(content))
    assert ledger.read_result(job).complete
    assert ledger.result(job) is None
    assert ledger.status(job) == "interrupted"
