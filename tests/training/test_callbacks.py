import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.data.batches.in_memory import MemoryLoader
from classmates.training.callbacks import History


@pytest.fixture
def slow_images(monkeypatch):
    """Every batch takes so many seconds to make."""

    def slow(seconds):
        make = MemoryLoader.pixels

        def slowly(self):
            for batch in make(self):
                time.sleep(seconds)
                yield batch

        monkeypatch.setattr(MemoryLoader, "pixels", slowly)
        monkeypatch.setattr("classmates.training.callbacks.WAITING_TOLD_SECONDS", 0.1)

    return slow


def test_waiting_for_images_is_measured_told_and_shown(small_train, slow_images, tmp_path, capfd):
    slow_images(0.3)
    small_train(out=tmp_path / "run", epochs=2, progress=True, val_fraction=0.1)
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (rows["data_seconds"] >= 4 * 0.3).all()  # 120 images in batches of 30
    assert (rows["data_seconds"] <= rows["seconds"]).all()
    told = [line for line in capfd.readouterr().err.splitlines() if "waiting for images" in line]
    assert len(told) == 1  # of two epochs, the first
    assert "note: " in told[0]
    assert "images/s); what helps: a larger --batch_size" in told[0]


def test_training_that_does_not_wait_is_told_nothing(small_train, slow_images, tmp_path, capfd, monkeypatch):
    slow_images(0.0)
    monkeypatch.setattr("classmates.training.callbacks.WAITING_TOLD", 1.0)  # all of the time: never
    small_train(out=tmp_path / "run", epochs=1)
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (rows["data_seconds"] > 0).all()
    assert (rows["data_seconds"] <= rows["seconds"]).all()
    assert "waiting for images" not in capfd.readouterr().err


def test_an_epochs_seconds_hold_the_steps_that_a_device_has_still_to_take(small_train, tmp_path, monkeypatch):
    """A GPU is given its steps without waiting: what is queued at an epoch's end is waited for, once an epoch."""
    waited = []

    def wait_for(device):
        waited.append(device.type)
        time.sleep(0.4)

    monkeypatch.setattr("classmates.training.callbacks.wait_for", wait_for)
    small_train(out=tmp_path / "run", epochs=2, val_fraction=0.1)
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert len(waited) == 2
    assert (rows["seconds"] >= 0.4).all()
    assert (rows["images_per_second"] * rows["seconds"]).round().tolist() == [120, 120]


def test_the_table_has_the_rate_of_the_last_step(small_train, tmp_path):
    rates = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    small_train(out=tmp_path / "run", epochs=3, schedule="OneCycleLR", callbacks=[Rates()])
    assert pd.read_csv(tmp_path / "run" / "metrics.csv")["lr"].tolist() == pytest.approx(rates[3::4])


def test_the_rate_in_the_table_is_the_highest_of_all_parameters(tmp_path):
    history = History(tmp_path / "metrics.csv", {})
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.3}, {"lr": 0.2}])
    history.on_train_batch_start(SimpleNamespace(optimizers=[optimizer]), None, None, 0)
    assert history.lr == 0.3


def test_the_images_of_all_processes_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("classmates.training.callbacks.TrainingModule", SimpleNamespace)
    history = History(tmp_path / "metrics.csv", {})
    module = SimpleNamespace(train_loader=SimpleNamespace(waited=0.0))
    trainer = SimpleNamespace(world_size=3, is_last_batch=False)
    history.on_train_epoch_start(trainer, module)
    for _ in range(2):
        history.on_train_batch_end(trainer, module, None, SimpleNamespace(labels=torch.arange(8)), 0)
    assert history.images == 48
