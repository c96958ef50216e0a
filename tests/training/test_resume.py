"""A run that was stopped goes on bit for bit, and only as it was."""

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from classmates.cli import main
from classmates.errors import UserError
from classmates.methods import CORSD, DLB, MCL, PCL, PSKD, BornAgain, Combined
from classmates.networks.building.build import build_model
from classmates.runs.record import RunRecord
from classmates.runs.student import read_card, save_student, write_card
from classmates.training import setup
from classmates.training.acceleration import Acceleration
from classmates.training.checkpoints import load_checkpoint
from classmates.training.train import train
from tests.training.conftest import SMALL

CLOCK = ["seconds", "data_seconds", "images_per_second"]


class Interruption(Exception):
    pass


class StopInEpoch(Callback):
    """Breaks off in the middle of an epoch (from 0), as a crash would."""

    def __init__(self, epoch, batch=1):
        self.at = epoch, batch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Interruption


class StopInValidation(Callback):
    def on_validation_start(self, trainer, module):
        raise Interruption


class Witness(Callback):
    """Notes of every step its images, and what code of others would draw next from the global random states."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        draws = torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002
        self.seen[trainer.global_step] = [*batch.indices.tolist(), *draws]


def assert_same(first, second, where=""):
    """Equal to the last bit, through any nesting of what a checkpoint holds."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    else:
        assert first == second, where


def assert_same_runs(first, second):
    checkpoints = [load_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (first, second)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert_same(*(checkpoint[part] for checkpoint in checkpoints), part)
    tables = [pd.read_csv(folder / "metrics.csv").drop(columns=CLOCK) for folder in (first, second)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert len(tables[0]) == 4


def last_step(folder):
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]


SMALL_MCL = partial(MCL, peers=2, num_negatives=16, dimension=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run of the baseline returns that was not stopped."""
    return train(**SMALL | {"out": tmp_path_factory.mktemp("whole") / "run"})


@pytest.fixture(scope="module")
def whole_mcl(tmp_path_factory):
    """What a run of MCL returns that was not stopped, and a witness of it."""
    witness, out = Witness(), tmp_path_factory.mktemp("whole") / "mcl"
    return train(**SMALL | {"method": SMALL_MCL, "out": out, "callbacks": [witness]}), witness


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (SMALL_MCL, {}),
        (CORSD, {}),
        (CORSD, {"precision": "bf16-mixed", "memory_format": "channels_last"}),
        # Views, running means of the weights, and what is kept of the last batch.
        (partial(Combined, methods=[partial(PCL, peers=2, ramp=0), DLB]), {"batch_size": 60}),
        (BornAgain, {"schedule": "CosineAnnealingWarmRestarts", "schedule_args": {"T_0": 2}}),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(method, settings, small_train, whole_mcl, tmp_path):
    small_train = partial(small_train, **settings)
    whole, witness = whole_mcl
    if method is not SMALL_MCL:
        witness = Witness()
        whole = small_train(method=method, out=tmp_path / "whole", callbacks=[witness])
    for checkpoint_steps, kept in ((None, 8), (3, 9)):  # of four steps an epoch
        parts, resumed_witness = tmp_path / str(checkpoint_steps), Witness()
        with pytest.raises(Interruption):
            small_train(method=method, out=parts, checkpoint_steps=checkpoint_steps, callbacks=[StopInEpoch(2)])
        assert last_step(parts) == kept
        resumed = small_train(method=method, out=parts, resume=True, callbacks=[resumed_witness])
        assert_same_runs(whole.folder, parts)
        assert_same(dict(whole.student.state_dict()), dict(resumed.student.state_dict()))
        assert whole.test == resumed.test
        assert resumed_witness.seen == {step: seen for step, seen in witness.seen.items() if step > kept}


def test_stopped_three_times_in_one_epoch(small_train, tmp_path):
    small_train(method=PSKD, out=tmp_path / "whole")
    small_train = partial(small_train, method=PSKD, out=tmp_path / "parts", checkpoint_steps=1)
    with pytest.raises(Interruption):
        small_train(callbacks=[StopInEpoch(2, 1)])
    assert last_step(tmp_path / "parts") == 9
    for stop in (StopInEpoch(2, 3), StopInValidation()):  # the state at the last step is kept after validation only
        with pytest.raises(Interruption):
            small_train(callbacks=[stop], resume=True)
        assert last_step(tmp_path / "parts") == 11
    small_train(resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")
    table = pd.read_csv(tmp_path / "parts" / "metrics.csv")
    np.testing.assert_allclose(table["images_per_second"] * table["seconds"], 120)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_from_files_go_on_in_mid_epoch(small_train, num_workers, tmp_path):
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (72, 72, 3), dtype=np.uint8)).save(path)
    settings = {"data": tmp_path / "images", "train_size": 24, "batch_size": 6, "num_workers": num_workers}
    small_train = partial(small_train, **settings)
    small_train(out=tmp_path / "whole")
    with pytest.raises(Interruption):
        small_train(out=tmp_path / "parts", checkpoint_steps=3, callbacks=[StopInEpoch(2)])
    assert last_step(tmp_path / "parts") == 9
    small_train(out=tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_killed_in_mid_epoch_and_resumed(small_train, whole_mcl, tmp_path):
    script = f"""
        import os, signal
        from functools import partial
        from pathlib import Path
        from lightning.pytorch.callbacks import Callback
        from classmates import MCL, train

        class Kill(Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if trainer.current_epoch == 2 and batch_idx == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        train(data="digits", model="resnet8", method=partial(MCL, peers=2, num_negatives=16, dimension=8),
              train_size=120, batch_size=30, epochs=4, accelerator="cpu", precision="32-true",
              memory_format="contiguous", loggers=(), report=False, progress=False,
              out=Path({str(tmp_path / "killed")!r}), callbacks=[Kill()])
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "killed" / "result.json").exists()
    small_train(method=SMALL_MCL, out=tmp_path / "killed", resume=True)
    assert_same_runs(whole_mcl[0].folder, tmp_path / "killed")


class Sleep(Callback):
    """Makes a step, the first if not said, take longer than a second."""

    def __init__(self, step=1):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            time.sleep(1.1)


def test_a_time_limit_ends_whole_epochs(small_train, whole, tmp_path):
    short = small_train(out=tmp_path / "parts", max_time="00:00:00:01", callbacks=[Sleep()])
    assert last_step(tmp_path / "parts") == 4
    assert str(short).splitlines()[0].startswith(f"{short.record.name}: 1 of 4 epochs in ")
    assert "WARNING: stopped after 1 of 4 epochs, over which the learning rate was to fall" in str(short)
    small_train(out=tmp_path / "parts", resume=True)
    assert_same_runs(whole.folder, tmp_path / "parts")


def test_a_time_limit_is_for_one_sitting(small_train, whole, tmp_path):
    small_train = partial(small_train, out=tmp_path / "parts", max_time="00:00:00:01")
    small_train(callbacks=[Sleep()])
    small_train(resume=True, callbacks=[Sleep(5)])
    assert last_step(tmp_path / "parts") == 8
    small_train(resume=True, max_time="00:01:00:00")
    assert_same_runs(whole.folder, tmp_path / "parts")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a run that was stopped in its second epoch."""
    run = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(Interruption):
        train(**SMALL | {"out": run, "callbacks": [StopInEpoch(1)]})
    return run


@pytest.fixture
def stopped(begun, tmp_path):
    """A copy of it, which a test may change."""
    return shutil.copytree(begun, tmp_path / "run")


def test_a_run_that_goes_on_by_its_settings_still_says_what_was_decided(stopped, whole):
    assert any(note.startswith("recipe 'small-images'") for note in whole.record.notes)
    settings = ["--config", str(stopped / "config.yaml"), "--out", str(stopped)]
    assert main(["train", *settings, "--resume", "true"]) == 0
    assert RunRecord.from_json((stopped / "result.json").read_text()).notes == whole.record.notes


@pytest.mark.parametrize("out", ["run", None])
def test_a_run_that_goes_on_keeps_its_precision_wherever_it_lies(small_train, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    small_train = partial(small_train, out=out, precision="auto", memory_format="auto")
    timed = iter(["contiguous", "channels_last"])

    def choose(precision, memory_format, *network):
        found = next(timed) if memory_format == "auto" else memory_format
        return Acceleration("32-true" if precision == "auto" else precision, found, [])

    monkeypatch.setattr(setup, "choose", choose)
    with pytest.raises(Interruption):
        small_train(callbacks=[StopInEpoch(1)])
    resumed = small_train(resume=True)
    assert resumed.record.config["memory_format"] == "contiguous"
    assert resumed.folder.name == (out or "Baseline-resnet8-digits-0")


def test_a_finished_run_that_goes_on_keeps_what_was_found_since(small_train, tmp_path):
    run = small_train(out=tmp_path / "run", epochs=1).folder
    write_card(run, replace(read_card(run), temperature=1.5, exports={"onnx": {"file": "student.onnx"}}))
    (run / "README.md").write_text("# My own words\n")
    before = read_card(run)
    small_train(out=run, epochs=1, resume=True)
    assert read_card(run) == before
    assert (run / "README.md").read_text() == "# My own words\n"
    save_student(run, build_model("resnet8", 10, in_chans=1), before)  # another student, whose temperature it was
    small_train(out=run, epochs=1, resume=True)
    assert (read_card(run).temperature, read_card(run).exports) == (None, {})


@pytest.mark.parametrize("name", ["a::b[x]{epoch}%d", "~"])
def test_a_folder_may_have_any_name(small_train, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = f"{name}/run"
    with pytest.raises(Interruption):
        small_train(out=out, callbacks=[StopInEpoch(1)])
    result = small_train(out=out, resume=True)
    assert result.folder.resolve() == (tmp_path / ("home" if name == "~" else name) / "run").resolve()
    assert (result.folder / "result.json").is_file()
    assert len([*tmp_path.iterdir()]) == 1


def test_changed_settings_are_refused_by_name(stopped, small_train):
    with pytest.raises(UserError, match=r"lr was 0\.05 and is 0\.1"):
        small_train(out=stopped, resume=True, lr=0.1)
    with pytest.raises(UserError, match=r"method was .*Baseline.* and is .*CORSD"):
        small_train(out=stopped, resume=True, method=CORSD)


def test_a_folder_with_another_run_is_left_alone(stopped, small_train):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run"):
        small_train(out=stopped)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_nothing_to_resume(small_train, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        small_train(out=tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_checkpoints_every_no_steps_are_refused(small_train, tmp_path):
    with pytest.raises(UserError, match="checkpoint_steps=0: give 1 or more"):
        small_train(out=tmp_path / "run", checkpoint_steps=0)
    assert not (tmp_path / "run").exists()


def test_damaged_checkpoint(stopped, small_train):
    last = stopped / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.ckpt' is damaged"):
        small_train(out=stopped, resume=True)


def test_foreign_code_in_a_checkpoint_is_not_run(stopped, small_train, tmp_path):
    class Foreign:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"state_dict": {}, "foreign": Foreign()}, stopped / "checkpoints" / "last.ckpt", pickle_module=pickle)
    with pytest.raises(UserError, match="foreign code"):
        small_train(out=stopped, resume=True)
    assert not (tmp_path / "executed").exists()


def test_full_disk_keeps_the_last_good_checkpoint(small_train, tmp_path, monkeypatch):
    saves = []
    real_save = torch.save

    def save(checkpoint, path, *args, **kwargs):
        if len(saves) == 4:  # two epochs, two checkpoints each: last and best
            path.write_bytes(b"half a checkpoint")
            raise OSError(28, "No space left on device")
        saves.append(path)
        real_save(checkpoint, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match="No space left on device"):
        small_train(out=tmp_path / "run")
    monkeypatch.undo()
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["best.ckpt", "last.ckpt"]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["epoch"] == 1
    small_train(out=tmp_path / "run", resume=True)
    assert len(pd.read_csv(tmp_path / "run" / "metrics.csv")) == 4
