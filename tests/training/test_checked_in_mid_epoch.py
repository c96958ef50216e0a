"""Losses and weights are looked at within an epoch too, of which the first may be long."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.errors import NonFiniteLoss
from classmates.methods import Baseline
from classmates.training import module


class Steps(Callback):
    """Counts the steps that begin."""

    taken = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.taken += 1


class SpoiledStatistics(Steps):
    """Makes a running variance infinite in the second step, which no loss in training shows."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        super().on_train_batch_start(trainer, module, batch, batch_idx)
        if self.taken == 2:
            next(one for name, one in module.named_buffers() if name.endswith("running_var")).fill_(torch.inf)


class Lost(Baseline):
    """The second step has no finite loss, and teaches nothing: the weights stay as they are."""

    steps = 0

    def forward(self, batch):
        output = super().forward(batch)
        self.steps += 1
        return output._replace(terms={"ce": output.terms["ce"] * torch.nan}) if self.steps == 2 else output


@pytest.fixture
def twelve_steps(small_train, tmp_path):
    """Trains for an epoch of twelve steps, and says how many were begun before the error that is told."""

    def trained(steps, said, **settings):
        with pytest.raises(NonFiniteLoss, match=said):
            small_train(
                batch_size=10,
                epochs=1,
                val_fraction=0,
                test=False,
                callbacks=[steps],
                out=tmp_path / "run",
                **settings,
            )
        return steps.taken

    return trained


@pytest.mark.parametrize(("every", "taken"), [(2, 2), (3, 3), (50, 12)])
def test_statistics_that_are_not_finite_are_noticed_after_so_many_steps(every, taken, twelve_steps, monkeypatch):
    monkeypatch.setattr(module, "CHECK_EVERY", every)
    assert twelve_steps(SpoiledStatistics(), "running_var") == taken


def test_a_term_that_is_not_finite_is_noticed_in_the_same_check(twelve_steps, monkeypatch):
    """Without a GPU terms are looked at in every step beside; here there is no step beside."""
    monkeypatch.setattr(module, "CHECK_EVERY", 1)
    assert twelve_steps(Steps(), "the loss term 'ce' is not finite since step 1", method=Lost) == 2
