"""What "auto" becomes, and that what is chosen is what runs."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates.errors import UserError
from classmates.training import acceleration
from classmates.training.acceleration import choose, device_type, first_device


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a GPU, and with or without bfloat16 in it."""

    def make(*, gpu, bfloat16):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(acceleration, "has_bfloat16", lambda device: bfloat16)
        monkeypatch.setattr(acceleration, "require_kernels", lambda device: None)

    return make


SHAPE = (3, 16, 16)
AUTO = {"precision": "auto", "memory_format": "auto"}


def chosen(precision, memory_format, accelerator, network, batch_size=8):
    return choose(precision, memory_format, accelerator, network, SHAPE, batch_size)


def test_auto_takes_what_is_clearly_faster_and_says_what_was_measured(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=True)
    taken = {("32-true", "contiguous"): 10.0, ("32-true", "channels_last"): 9.5, ("bf16-mixed", "contiguous"): 12.0}
    monkeypatch.setattr(acceleration, "_step", lambda *how: lambda: taken.get(how[-2:], 4.0))
    settled = chosen("auto", "auto", "auto", tiny_network())
    assert settled[:2] == ("bf16-mixed", "channels_last")
    (note,) = settled.notes
    assert note.startswith("precision bf16-mixed, memory_format channels_last: measured, ms a step: bf16-mixed")
    assert "32-true contiguous 10.0" in note


def test_what_is_hardly_faster_is_not_taken(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=False)
    monkeypatch.setattr(acceleration, "_step", lambda *how: lambda: 9.5 if "channels_last" in how else 10.0)
    assert chosen("auto", "auto", "auto", tiny_network(seed=1))[:2] == ("32-true", "contiguous")


def test_bfloat16_must_be_clearly_faster_than_the_best_of_float32(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=True)
    taken = {
        ("32-true", "contiguous"): 4.3,
        ("32-true", "channels_last"): 3.4,
        ("bf16-mixed", "contiguous"): 4.1,
        ("bf16-mixed", "channels_last"): 3.3,
    }
    monkeypatch.setattr(acceleration, "_step", lambda *how: lambda: taken[how[-2:]])
    assert chosen("auto", "auto", "auto", tiny_network(widths=(5, 7, 8)))[:2] == ("32-true", "channels_last")


def test_bfloat16_is_not_tried_where_the_processor_lacks_it(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=False)
    tried = []
    monkeypatch.setattr(acceleration, "_step", lambda *how: tried.append(how[-2:]) or (lambda: 1.0))
    chosen("auto", "auto", "cpu", tiny_network(widths=(5, 6, 7)))
    assert tried == [("32-true", "contiguous"), ("32-true", "channels_last")]


@pytest.mark.parametrize("slowed", [range(6), range(3, 6), (4, 6), (5, 7, 9)])
def test_what_slows_the_machine_for_a_while_does_not_choose(machine, monkeypatch, tiny_network, slowed):
    machine(gpu=False, bfloat16=False)
    calls, speeds = itertools.count(), {"contiguous": 10.0, "channels_last": 6.0}
    monkeypatch.setattr(
        acceleration, "_step", lambda *how: lambda: speeds[how[-1]] * (3 if next(calls) in slowed else 1)
    )
    monkeypatch.setattr(acceleration, "cache_folder", lambda: Path("/nowhere"))
    settled = chosen("auto", "auto", "cpu", tiny_network())
    assert settled.memory_format == "channels_last"
    assert "channels_last 6.0, 32-true contiguous 10.0" in settled.notes[0]


def test_a_measurement_is_made_once_whatever_the_batches(machine, monkeypatch, tiny_network):
    """The rows of a comparison may have batches of their own, and are to be computed alike."""
    machine(gpu=False, bfloat16=False)
    tried = []
    monkeypatch.setattr(acceleration, "_step", lambda *how: tried.append(how[2]) or (lambda: 1.0))
    first = chosen("auto", "auto", "cpu", tiny_network(widths=(6, 7, 8)), batch_size=128)
    again = chosen("auto", "auto", "cpu", tiny_network(widths=(6, 7, 8), seed=3), batch_size=32)
    assert first == again
    assert tried == [128, 128]


def test_processes_that_begin_together_measure_once(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=False)
    speeds = itertools.count(1)  # the second to measure would find other times
    monkeypatch.setattr(acceleration, "_step", lambda *how: lambda: time.sleep(0.02) or next(speeds))
    with ThreadPoolExecutor(2) as pool:
        networks = [tiny_network(widths=(6, 7, 9)) for _ in range(2)]
        first, second = pool.map(lambda network: chosen("auto", "auto", "cpu", network), networks)
    assert first == second


def test_why_the_fastest_is_not_taken_is_said(machine, monkeypatch, tiny_network):
    machine(gpu=False, bfloat16=False)
    monkeypatch.setattr(acceleration, "_step", lambda *how: lambda: 9.5 if "channels_last" in how else 10.0)
    (note,) = chosen("auto", "auto", "auto", tiny_network(widths=(5, 8, 8))).notes
    assert "channels_last 9.5, 32-true contiguous 10.0 (the plainest that none is a tenth faster than)" in note


def test_measuring_leaves_network_and_random_numbers_as_they_were(machine, tiny_network):
    machine(gpu=False, bfloat16=False)
    network = tiny_network(widths=(7, 8, 9))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    chosen("auto", "auto", "cpu", network)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.is_contiguous() for parameter in network.parameters())


def test_what_is_given_stays(machine, tiny_network):
    machine(gpu=True, bfloat16=True)
    assert chosen("32-true", "contiguous", "auto", tiny_network()) == ("32-true", "contiguous", [])
    machine(gpu=False, bfloat16=False)
    assert chosen("16-mixed", "contiguous", "cpu", tiny_network()) == ("16-mixed", "contiguous", [])
    with pytest.raises(UserError, match="unknown memory_format 'channel_last': did you mean 'channels_last'"):
        chosen("auto", "channel_last", "auto", tiny_network())


def test_what_does_not_fit_is_not_taken_and_not_kept(machine, monkeypatch, tiny_network, tmp_path):
    machine(gpu=False, bfloat16=True)
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path))
    fits = []

    def step(*how):
        def taken():
            if how[-2] in fits:
                return 5.0
            raise torch.OutOfMemoryError("full")

        return taken

    monkeypatch.setattr(acceleration, "_step", step)
    network = tiny_network(seed=11)
    with pytest.raises(UserError, match="a step of 8 images does not fit into the GPU's memory"):
        chosen("auto", "auto", "auto", network)
    fits.append("bf16-mixed")
    settled = chosen("auto", "auto", "auto", network)
    assert settled[:2] == ("bf16-mixed", "contiguous")
    assert "32-true contiguous does not fit" in settled.notes[0]
    fits.append("32-true")
    assert chosen("auto", "auto", "auto", network)[0] == "32-true"


def test_timings_that_cannot_be_kept_are_told(machine, monkeypatch, tiny_network, tmp_path, capsys):
    machine(gpu=False, bfloat16=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLASSMATES_CACHE", str(tmp_path / "file"))
    assert chosen("auto", "auto", "auto", tiny_network(seed=12)).notes
    assert "every process measures anew" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("devices", "first"), [(1, "cuda"), (4, "cuda"), ("auto", "cuda"), ("1,", "cuda:1"), ("2,3", "cuda:2")]
)
def test_the_device_that_trains_is_timed(devices, first):
    assert first_device("cuda", devices) == torch.device(first)
    assert first_device("cpu", devices) == torch.device("cpu")


def test_which_device_it_will_be(machine):
    machine(gpu=True, bfloat16=True)
    assert [device_type(word) for word in ("auto", "gpu", "cuda", "cpu", "tpu")] == ["cuda"] * 3 + ["cpu", "tpu"]
    machine(gpu=False, bfloat16=True)
    assert device_type("auto") == "cpu"
    assert chosen("auto", "auto", "tpu", nn.Linear(3, 2))[:2] == ("32-true", "contiguous")


class BrokenOff(Callback):
    """Ends a run in its second epoch, as a crash would."""

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            raise RuntimeError("broken off")


class Witness(Callback):
    """Notes what the first step runs in."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        weights = [weight for weight in module.method.student().parameters() if weight.ndim == 4]
        self.channels_last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
        self.autocast = trainer.precision
        self.fused = trainer.optimizers[0].param_groups[0].get("fused")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_is_chosen_is_what_runs(small_train, tmp_path, precision):
    witness = Witness()
    result = small_train(
        out=tmp_path, epochs=1, precision=precision, memory_format="channels_last", callbacks=[witness]
    )
    assert (witness.channels_last, witness.autocast, witness.fused) == (True, precision, True)
    assert all(parameter.is_contiguous() for parameter in result.student.parameters())
    assert result.record.config["memory_format"] == "channels_last"
    assert not any("measured" in note for note in result.record.notes)


def test_the_record_holds_what_auto_became(small_train, tmp_path):
    result = small_train(out=tmp_path, epochs=1, **AUTO)
    assert result.record.config["precision"] != "auto"
    assert result.record.config["memory_format"] in acceleration.FORMATS
    assert any("measured, ms a step" in note for note in result.record.notes)


def test_a_resumed_run_keeps_what_auto_became(small_train, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="broken off"):
        small_train(out=tmp_path, epochs=2, callbacks=[BrokenOff()], **AUTO)
    before = yaml.safe_load((tmp_path / "config.yaml").read_text())
    monkeypatch.setattr(acceleration, "timings", lambda *how: pytest.fail("measured again"))
    resumed = small_train(out=tmp_path, epochs=2, resume=True, **AUTO)
    for name in ("precision", "memory_format"):
        assert resumed.record.config[name] == before[name]
