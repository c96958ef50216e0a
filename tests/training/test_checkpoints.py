"""Checkpoints: what they hold, when they are written, and that a run goes on from them wherever it lies."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates.errors import UserError
from classmates.methods import Baseline
from classmates.training.checkpoints import IN_CHECKPOINT, load_checkpoint


class Broken(Exception):
    pass


class BreakAtEpoch(Callback):
    """Ends the run as a crash would, at the beginning of an epoch (from 0)."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise Broken


def test_a_run_that_has_moved_still_knows_its_best_epoch(small_train, tmp_path, recwarn):
    def train(folder, **more):
        # Without a rate nothing gets better, so that the first epoch is the best for good.
        maps = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()]
        still = nn.Sequential(*maps, nn.Flatten(), nn.Linear(16, 10))
        settings = {"epochs": 4, "lr": 1e-12, "keep": "best"}
        return small_train(model=still, method=Baseline, out=tmp_path / folder, **settings, **more)

    for number in (1, 2):
        with pytest.raises(Broken):
            train(f"place{number}", callbacks=[BreakAtEpoch(number)], resume=number > 1)
        (tmp_path / f"place{number}").rename(tmp_path / f"place{number + 1}")
    assert train("place3", resume=True).record.validation.best.epoch == 1
    assert not [one for one in recwarn if "dirpath" in str(one.message)]


def test_nothing_is_kept_between_the_batches_of_a_step(small_train, tmp_path):
    class Break(Callback):
        def __init__(self, batch):
            self.batch = batch

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == self.batch:
                raise Broken

    settings = {"batch_size": 12, "accumulate": 4, "epochs": 1, "checkpoint_steps": 1, "val_fraction": 0}
    whole = small_train(out=tmp_path / "whole", **settings).student.state_dict()  # steps of batches 4, 4 and 2
    parts = partial(small_train, out=tmp_path / "parts", **settings)
    for resume, batch in ((False, 5), (True, 6)):
        with pytest.raises(Broken):
            parts(resume=resume, callbacks=[Break(batch)])
        checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.ckpt")
        assert checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"] == 4
    resumed = parts(resume=True).student.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


@pytest.mark.parametrize("key", IN_CHECKPOINT)
def test_a_checkpoint_that_lacks_what_lightning_wants_is_named(tmp_path, key):
    torch.save({name: {} for name in IN_CHECKPOINT if name != key}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=f"last.ckpt' is no checkpoint of a training run: it lacks {key}"):
        load_checkpoint(tmp_path / "last.ckpt")
