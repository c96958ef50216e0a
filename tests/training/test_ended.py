"""Runs that end before their end: by a signal, by a full disk, by a checkpoint that has gone."""

import errno
import os
import shutil
import signal

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates._signals import Ended
from classmates.errors import UserError
from classmates.training.checkpoints import load_checkpoint
from classmates.training.train import train
from tests.training.conftest import SMALL


class EndAt(Callback):
    """Sends this process a signal in the middle of an epoch, from 0."""

    def __init__(self, epoch, number):
        self.epoch, self.number = epoch, number

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            os.kill(os.getpid(), self.number)


ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of two epochs that SIGTERM has ended in the second."""
    run = tmp_path_factory.mktemp("ended") / "run"
    with pytest.raises(Ended):
        train(**SMALL | {"out": run, "epochs": 2, "callbacks": [EndAt(1, signal.SIGTERM)]})
    return run


def test_a_run_that_a_signal_has_ended_goes_on(small_train, ended, tmp_path):
    run = shutil.copytree(ended, tmp_path / "run")
    assert load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert small_train(out=run, epochs=2, resume=True).record.training.steps == 8


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_every_signal_is_an_interruption_and_handlers_stay(small_train, tmp_path, number):
    handlers = [signal.getsignal(one) for one in ENDS]
    with pytest.raises(KeyboardInterrupt) as caught:
        small_train(out=tmp_path / "run", callbacks=[EndAt(0, number)])
    assert isinstance(caught.value, Ended) is (number != signal.SIGINT)
    assert [signal.getsignal(one) for one in ENDS] == handlers


@pytest.mark.parametrize(
    ("written", "message", "error"),
    [
        (0, "there is none before it: make space and start anew", OSError(errno.ENOSPC, "No space left on device")),
        (2, "--resume true", OSError(errno.ENOSPC, "No space left on device")),
        (2, "--resume true", RuntimeError("write failed")),
    ],
)
def test_a_full_disk_says_what_is_left(small_train, tmp_path, monkeypatch, written, message, error):
    saves, real_save = [], torch.save

    def save(checkpoint, path, *args, **kwargs):
        if len(saves) == written:
            raise error
        saves.append(path)
        real_save(checkpoint, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match=rf"could not be written \(.*\); .*{message}"):
        small_train(out=tmp_path / "run", epochs=2)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("content", [b"", None])
def test_a_checkpoint_that_has_gone_is_told_before_training(small_train, ended, tmp_path, name, content):
    run = shutil.copytree(ended, tmp_path / "run")
    path = run / "checkpoints" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}' is damaged|no checkpoint"):
        small_train(out=run, epochs=2, resume=True)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "64", "transformer-engine"])
def test_weights_of_other_precisions_are_refused_before_anything(small_train, tmp_path, precision):
    with pytest.raises(UserError, match=f"unknown precision '{precision}'"):
        small_train(out=tmp_path / "run", precision=precision)
    assert not (tmp_path / "run").exists()
