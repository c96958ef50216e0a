"""How commands end: the exit code, and what is said of it."""

import errno
import functools
import signal
import subprocess
import sys
from importlib import import_module
from shlex import split
from types import SimpleNamespace

import pandas as pd
import pytest

import classmates
from classmates._signals import Ended
from classmates.cli import main
from classmates.training.train import train


def raises(error):
    def function(**arguments):
        raise error

    return function


GOING_ON = "go on with --resume true or, if no epoch had ended, remove the folder and start anew"


@pytest.mark.parametrize(
    ("ends", "code", "message"),
    [
        (raises(classmates.UserError("too small")), 2, "classmates: error: too small\n"),
        (raises(classmates.NonFiniteLoss("term 'ce'")), 3, "classmates: error: term 'ce'\n"),
        (raises(KeyboardInterrupt()), 130, f"classmates: interrupted; {GOING_ON}\n"),
        (raises(Ended(signal.SIGTERM)), 143, f"classmates: ended by SIGTERM; {GOING_ON}\n"),
        (
            raises(OSError(errno.ENOSPC, "No space left on device", "runs/metrics.csv")),
            2,
            f"classmates: error: [Errno 28] No space left on device: 'runs/metrics.csv': make space; {GOING_ON}\n",
        ),
    ],
)
def test_how_a_run_ended_is_told_by_the_exit_code(ends, code, message, monkeypatch, capsys):
    monkeypatch.setattr("classmates.training.train.train", functools.wraps(train)(ends))
    assert main(["train"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("typed", ["train --help", "list models", "describe resnet8"])
def test_a_reader_that_has_seen_enough_is_no_error(typed):
    with subprocess.Popen(
        [sys.executable, "-m", "classmates", *split(typed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(("states", "code"), [(["done", "failed"], 4), (["done", "other version"], 0)])
@pytest.mark.parametrize(("command", "table"), [("compare", "runs"), ("improve", "trials"), ("sweep", "trials")])
def test_runs_that_failed_are_told_by_the_exit_code(command, table, states, code, monkeypatch):
    module = import_module(f"classmates.experiments.{command}")
    result = SimpleNamespace(**{table: pd.DataFrame({"status": states})})
    monkeypatch.setattr(module, command, functools.wraps(getattr(module, command))(lambda **arguments: result))
    assert main([command, "--data", "digits"]) == code


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(5)])
def test_other_exceptions_are_not_hidden(error, monkeypatch):
    monkeypatch.setattr("classmates.training.train.train", functools.wraps(train)(raises(error)))
    with pytest.raises(type(error)) as caught:
        main(["train"])
    assert caught.value is error


@pytest.mark.parametrize("typed", ["train --data digits", "list models"])
def test_a_working_folder_that_is_gone_is_told(typed, tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(split(typed)) == 2
    assert "is gone: change to one that exists" in capsys.readouterr().err
