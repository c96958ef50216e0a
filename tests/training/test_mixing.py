"""Mixup and CutMix in a run: in training steps alone, the same after a break, and refused before it begins."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from classmates.methods import Baseline

MIXING = Augmentation(mixup=0.4, cutmix=1.0, erasing=0.3)


class Interruption(Exception):
    pass


class StopAt(Callback):
    """Breaks off in the middle of the second epoch."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 1):
            raise Interruption


class Sees(Baseline):
    """Notes which batches have targets: those of training steps."""

    seen: list[bool] = []  # noqa: RUF012

    def forward(self, batch):
        self.seen.append(batch.targets is not None)
        return super().forward(batch)


def test_training_mixes_and_goes_on_bit_for_bit(small_train, tmp_path):
    settings = {"epochs": 2, "augmentation": MIXING, "checkpoint_steps": 1, "num_workers": 0}
    whole = small_train(**settings, method=Sees, out=tmp_path / "whole")
    assert Sees.seen
    assert all(Sees.seen)
    with pytest.raises(Interruption):
        small_train(**settings, method=Sees, callbacks=[StopAt()], out=tmp_path / "broken")
    resumed = small_train(**settings, method=Sees, resume=True, out=tmp_path / "broken")
    for name, weights in whole.student.state_dict().items():
        assert torch.equal(weights, resumed.student.state_dict()[name]), name
    plain = small_train(epochs=2, num_workers=0, out=tmp_path / "plain")
    assert any(not torch.equal(w, plain.student.state_dict()[n]) for n, w in whole.student.state_dict().items())


def test_a_method_that_cannot_be_mixed_is_refused_first(small_train, small_mcl, tmp_path):
    with pytest.raises(UserError, match=r"mixup=0\.4 and cutmix=1: MCL cannot be trained on images mixed"):
        small_train(method=small_mcl, augmentation=MIXING, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
