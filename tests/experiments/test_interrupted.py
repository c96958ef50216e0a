"""Runs that were cut off, killed or shared: what goes on, and from where."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest

from classmates.experiments import workers
from classmates.experiments.ledger import Ledger
from tests.fixtures.small_comparison import TINY, every_run, states

pytestmark = pytest.mark.long


def test_a_result_that_is_cut_off_is_told_and_made_again(small):
    first = small()
    result = Path(first.runs["folder"][0]) / "result.json"
    whole = result.read_text()
    result.write_text(whole[:200])
    seen = every_run(first.folder)
    assert seen["status"][0] == "failed"
    assert "cut off" in seen["failure"][0]
    again = small()
    assert len(small.made) == 1
    assert json.loads(result.read_text())["test"] == json.loads(whole)["test"]
    assert states(again) == states(first)


def test_a_damaged_checkpoint_means_a_new_start(small, monkeypatch):
    first = small()
    folder = Path(first.runs["folder"][0])
    (folder / "result.json").unlink()
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert Ledger(first.folder).status(first.plan[0]) == "interrupted"
    assert small().runs["student"][0] == first.runs["student"][0]


SCRIPT = """
    import os, signal, sys
    from functools import wraps
    from lightning.pytorch.callbacks import Callback
    from classmates.experiments import compare as module, workers
    from classmates.training.train import train

    class Kill(Callback):
        def on_train_batch_end(self, trainer, *others):
            if trainer.current_epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    @wraps(train)
    def noting(callbacks, **arguments):
        with open(sys.argv[1] + ".made", "a") as file:
            file.write(arguments["out"].name + "\\n")
        return train(**arguments, callbacks=[Kill()] if sys.argv[2] == str(arguments["seed"]) else [])

    workers.train = noting
    module.write_comparison = lambda *arguments: None
    module.compare(["Baseline"], seeds=3, recipe="none", train=SETTINGS, workers=0, out=sys.argv[1])
"""


def start(out, killed_at=""):
    script = textwrap.dedent(SCRIPT).replace("SETTINGS", repr(TINY))
    command = [sys.executable, "-c", script, str(out), str(killed_at)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_killed_in_the_middle_of_three_runs(tmp_path, small):
    process = start(tmp_path / "ledger", killed_at=1)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors.decode()
    before = every_run(tmp_path / "ledger")
    assert before["status"].tolist() == ["done", "interrupted", "waiting"]
    first, second = (Path(folder) for folder in before["folder"][:2])
    result, epochs = (first / "result.json").stat(), pd.read_csv(second / "metrics.csv")
    assert len(epochs) == 1
    after = small(seeds=3)
    assert after.runs["status"].tolist() == ["done"] * 3
    assert [Path(folder) for folder in small.made] == [second, Path(before["folder"][2])]
    assert (first / "result.json").stat().st_mtime_ns == result.st_mtime_ns
    pd.testing.assert_frame_equal(pd.read_csv(second / "metrics.csv")[:1], epochs)  # it went on, with its times
    alone = small(seeds=[1], out=tmp_path / "alone")
    assert alone.runs["student"][0] == after.runs["student"][1]


def test_two_processes_share_the_work(tmp_path, small):
    other = start(tmp_path / "ledger")
    its_runs = tmp_path / "ledger.made"
    while not its_runs.exists() and other.poll() is None:
        time.sleep(0.01)
    comparison = small(seeds=3)
    errors = other.communicate()[1]
    assert other.returncode == 0, errors.decode()
    made = [*its_runs.read_text().split(), *(folder.name for folder in small.made)]
    assert sorted(made) == sorted(job.name for job in comparison.plan)
    assert comparison.runs["status"].tolist() == ["done"] * 3


CRASH = """
    import os
    import timm

    def crash(num_classes, in_chans):
        network = timm.create_model("resnet8", num_classes=num_classes, in_chans=in_chans)
        network.register_full_backward_hook(lambda *gradients: os._exit(9))
        return network
"""


def test_runs_in_processes_of_their_own(tmp_path, small):
    (tmp_path / "crash.py").write_text(textwrap.dedent(CRASH))
    comparison = small(models=["resnet8", f"{tmp_path / 'crash.py'}:crash"], workers=2)
    assert comparison.runs["status"].tolist() == ["done", "failed"]
    assert "ended with code 9" in comparison.runs["failure"][1]
    assert small.made == []


@pytest.mark.parametrize(("gpus", "processes"), [([], 1), (["0"], 2)], ids=["forks", "with a GPU"])
def test_what_a_run_leaves_behind_is_not_there_in_the_next(gpus, processes, small, monkeypatch):
    """One process imports and forks for each run; where there is a GPU, which survives no fork, each is a new one."""
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(workers, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(workers.subprocess, "Popen", lambda *run, **how: started.append(run[0]) or popen(*run, **how))
    several = small(seeds=2, workers=1)
    assert several.runs["status"].tolist() == ["done"] * 2
    commands = [command for command in started if "classmates.experiments.worker" in command]
    assert len(commands) == processes
    assert all((command[-1] in [job.name for job in several.plan]) == bool(gpus) for command in commands)
    alone = small(seeds=[1], workers=0, out=several.folder.parent / "alone")
    assert alone.runs["student"][0] == several.runs["student"][1]


def test_the_lock_is_the_processes_and_ends_with_it(small):
    comparison = small()
    ledger, job = Ledger(comparison.folder), comparison.plan[0]
    with ledger.claim(job) as mine:
        assert mine
        assert ledger.status(job) == "running"
        with Ledger(comparison.folder).claim(job) as again:
            assert not again
    assert ledger.status(job) == "done"
    assert json.loads((ledger.jobs / f"{job.name}.lock").read_text())["pid"] == os.getpid()
