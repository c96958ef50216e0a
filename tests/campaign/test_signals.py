"""Commands that are ended from outside: a failure that is told, how to go on, and nobody who trains on.

These tests are what every run of the suite can afford. The long campaign, by hand: ``python -m
tests.campaign.signals_by_hand``.
"""

import os
import signal

import pytest

from classmates.experiments.ledger import Ledger
from classmates.training.checkpoints import load_checkpoint
from tests.fixtures.commands import Commands, children, is_alive, wait_for

pytestmark = pytest.mark.long

ENDLESS = (
    "--train_size 100 --batch_size 20 --epochs 1000 --accelerator cpu --loggers [] --report false --progress false"
)
COMPARED = ENDLESS.replace("--progress false", "").replace("--", "--train.")


@pytest.fixture(scope="module")
def commands():
    return Commands()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_training_that_is_ended_says_how_to_go_on(commands, tmp_path, number):
    run, log = tmp_path / "run", tmp_path / "log"
    process = commands.start(f"train --recipe none --data digits --model resnet8 {ENDLESS} --out {run}", log)
    wait_for((run / "checkpoints" / "last.ckpt").exists)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    assert "; go on with --resume true" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] > 0
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "metrics.csv"]


def test_a_worker_ends_with_a_comparison_that_is_killed(commands, tmp_path):
    ledger, log = Ledger(tmp_path / "ledger"), tmp_path / "log"
    typed = f"compare --recipe none --methods Baseline --seeds 1 --workers 1 {COMPARED} --out {ledger.folder}"
    process = commands.start(typed, log)
    wait_for(lambda: list(ledger.runs.glob("*/checkpoints/last.ckpt")))
    (worker,) = children(process.pid)
    (run,) = children(worker)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(run) and not is_alive(worker))
    (job,) = ledger.every_job()
    assert ledger.status(job) == "interrupted"
    assert "ended by SIGTERM; the command of the comparison goes on" in ledger.log(job).read_text()


@pytest.mark.parametrize("whose", ["worker", "run"])
def test_a_run_ends_with_the_process_that_it_comes_from(whose, commands, tmp_path):
    """And is a failed run, of which the ledger says how its process ended."""
    ledger, log = Ledger(tmp_path / "ledger"), tmp_path / "log"
    typed = f"compare --recipe none --methods Baseline --seeds 1 --workers 1 {COMPARED} --out {ledger.folder}"
    process = commands.start(typed, log)
    wait_for(lambda: list(ledger.runs.glob("*/checkpoints/last.ckpt")))
    (worker,) = children(process.pid)
    (run,) = children(worker)
    os.kill({"worker": worker, "run": run}[whose], signal.SIGKILL)
    wait_for(lambda: not is_alive(run))
    process.join(60)
    assert not is_alive(worker)
    (job,) = ledger.every_job()
    assert "its process was ended by SIGKILL" in ledger.failure(job)["error"]
