"""The largest batch that fits: the search, the rate that goes with it, and where it makes no sense."""

import dataclasses
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from classmates.data.loading import load
from classmates.errors import UserError
from classmates.methods import CORSD, MCL, Baseline
from classmates.training import batch_size
from classmates.training.batch_size import fill_memory, largest_that_fits, step_fits


@pytest.mark.parametrize(
    ("limit", "most", "expected"), [(100, 10_000, 96), (95, 10_000, 48), (10_000, 100, 96), (24, 10, 24)]
)
def test_it_doubles_while_it_fits_and_leaves_steps(limit, most, expected):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= limit

    assert largest_that_fits(fits, 24, most) == expected
    assert all(size <= 2 * limit for size in tried)


def test_where_not_even_the_first_fits_it_says_so():
    with pytest.raises(UserError, match="not even 24 images fit"):
        largest_that_fits(lambda size: False, 24, 1000)


def test_a_cpu_has_no_memory_to_fill(small_train, tmp_path):
    with pytest.raises(UserError, match="batch_size auto fills a GPU's memory, and this trains on cpu"):
        small_train(batch_size="auto", accelerator="cpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("optimizer", "scale_lr", "rate"), [("SGD", True, 0.2), ("AdamW", True, 0.1 * 2**0.5), ("SGD", False, 0.1)]
)
def test_the_rate_follows_the_batch(monkeypatch, optimizer, scale_lr, rate):
    monkeypatch.setattr(batch_size, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(batch_size, "step_fits", lambda config, method, images, size, device: True)
    images = load("digits")
    config = Config(optimizer=optimizer)
    filled, notes = fill_memory(config, None, images, scale_lr=scale_lr)
    assert (filled.batch_size, filled.lr) == (24, pytest.approx(rate))
    assert "batch_size 24" in notes[0]


@pytest.mark.parametrize("on", ["here", "ray"])
def test_several_processes_on_one_machine_do_not_measure_each_for_itself(monkeypatch, on):
    monkeypatch.setattr(batch_size, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(batch_size, "step_fits", lambda config, method, images, size, device: True)
    config = Config(optimizer="SGD", processes=2, on=on)
    with nullcontext() if on == "ray" else pytest.raises(UserError, match="several processes"):
        fill_memory(config, None, load("digits"), scale_lr=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that matter here."""

    optimizer: str
    accelerator: str = "gpu"
    devices: int | str = 1
    processes: int = 1
    on: str = "here"
    batch_size: int = 12
    lr: float = 0.1

    def stored(self, method):
        return {}


@dataclasses.dataclass(frozen=True)
class Step:
    """The settings of a step."""

    optimizer: str = "SGD"
    optimizer_args: None = None
    lr: float = 0.1
    precision: str = "32-true"
    memory_format: str = "channels_last"


@pytest.mark.parametrize("kind", [CORSD, partial(MCL, peers=2, num_negatives=8, start="identical", views="own")])
def test_a_step_is_tried_on_a_copy(tiny_network, tiny_data, kind):
    images = load("digits")
    spec = dataclasses.replace(tiny_data, num_classes=10, labels=images.train.labels, input_shape=images.input_shape)
    method = kind(tiny_network(10, in_chans=1), spec)
    before = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    assert step_fits(Step(), method, images, 12, torch.device("cpu"))
    after = method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_run_that_goes_on_keeps_the_batch_and_the_rate_that_it_had(monkeypatch):
    monkeypatch.setattr(batch_size, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(batch_size, "step_fits", lambda *_: pytest.fail("a step was tried"))
    monkeypatch.setattr(Config, "stored", lambda self, method: {"batch_size": 48, "lr": 0.4, "seed": 0})
    filled, notes = fill_memory(Config(optimizer="SGD"), None, load("digits"), scale_lr=True)
    assert (filled.batch_size, filled.lr, notes) == (48, 0.4, [])


@pytest.mark.parametrize(("error", "told"), [(torch.OutOfMemoryError, False), (RuntimeError, True)])
def test_a_step_that_the_memory_is_not_enough_for_does_not_fit(tiny_network, tiny_data, monkeypatch, error, told):
    def fail(*_):
        raise error("in the step")

    monkeypatch.setattr(batch_size, "make_optimizer", fail)
    images = load("digits")
    spec = dataclasses.replace(tiny_data, num_classes=10, labels=images.train.labels, input_shape=images.input_shape)
    tried = (Step(), Baseline(tiny_network(10, in_chans=1), spec), images, 12, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="in the step") if told else nullcontext():
        assert not step_fits(*tried)
