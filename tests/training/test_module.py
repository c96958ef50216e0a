"""A run whose epochs are over ends as it would have ended, however often it goes on, and trains no further."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from classmates.methods import MCL, SD, Baseline
from classmates.training.module import TermMeter
from classmates.training.train import train
from tests.training.conftest import SMALL

pytestmark = pytest.mark.long

AVERAGED = partial(MCL, peers=2, num_negatives=16, dimension=8, start="identical", views="own")


class Unwanted(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        raise AssertionError("a step was taken")


def photos(folder):
    """Images too large for memory, by which networks are given their batches by workers."""
    from PIL import Image

    for number in range(40):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((72, 72), 40 + number).convert("RGB").save(path)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.95},
        {"method": AVERAGED},
        {"method": AVERAGED, "model": "resnet10t", "model_args": {"drop_path_rate": 0.9}},
        {"method": AVERAGED, "freeze_stages": 1},
        {"method": AVERAGED, "freeze_stages": 1, "freeze_epochs": 2},
        {"method": SD, "keep": "best"},
        {"patience": 1, "lr": 1e-9, "epochs": 5},
        {"patience": 1, "lr": 1e-9, "epochs": 5, "method": AVERAGED},
        {"val_fraction": 0, "ema": 0.5},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_run_that_was_cut_off_in_its_end_ends_the_same(settings, small_train, tmp_path):
    small_train = partial(small_train, **{"epochs": 2, **settings})
    whole = small_train(out=tmp_path / "run")
    for name in ("result.json", "student.safetensors", "evaluation.npz"):
        (tmp_path / "run" / name).unlink()
    table = (tmp_path / "run" / "metrics.csv").read_text()
    resumed = small_train(out=tmp_path / "run", resume=True, callbacks=[Unwanted()])
    for kept in ("student", "method"):
        expected, found = getattr(whole, kept).state_dict(), getattr(resumed, kept).state_dict()
        tensors = [name for name, value in expected.items() if isinstance(value, torch.Tensor)]
        assert [name for name in tensors if not torch.equal(expected[name], found[name])] == []
    for part in ("test", "validation", "exits", "training", "notes", "warnings", "stopped_early", "test_last"):
        expected, found = getattr(whole.record, part), getattr(resumed.record, part)
        if part == "training":
            expected, found = (expected.epochs, expected.steps), (found.epochs, found.steps)
        assert expected == found, part
    assert (tmp_path / "run" / "metrics.csv").read_text() == table
    if "patience" in settings:
        assert whole.record.stopped_early
        assert whole.record.training.epochs == 2  # of five


def test_statistics_are_measured_over_a_whole_pass_of_files_too(small_train, tmp_path):
    settings = {"data": photos(tmp_path / "photos"), "train_size": 24, "batch_size": 6, "epochs": 2}
    small_train = partial(small_train, method=AVERAGED, **settings)
    whole = small_train(out=tmp_path / "run").student.state_dict()
    resumed = small_train(out=tmp_path / "run", resume=True, callbacks=[Unwanted()]).student.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_what_terms_have_learnt_goes_with_the_checkpoint():
    meter, other = TermMeter(), TermMeter()
    meter.seen, meter.learning = {"ce", "stuck"}, {"ce"}
    other.load_state_dict(meter.state_dict())
    assert other.without_gradient == ["stuck"]


class Gradients(Callback):
    """Keeps the gradient of every step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append(torch.cat([one.grad.flatten() for one in module.parameters()]))


FIVE_STEPS = {"batch_size": 24, "train_size": 120, "val_fraction": 0, "epochs": 1, "lr": 1e-9}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The gradients of five steps of one batch each."""
    gradients = Gradients()
    train(**SMALL | FIVE_STEPS | {"out": tmp_path_factory.mktemp("single") / "run", "callbacks": [gradients]})
    assert len(gradients.steps) == 5
    return gradients.steps


@pytest.mark.parametrize("accumulate", [2, 3, 4, 7])
def test_a_steps_gradient_is_the_mean_over_its_batches_also_where_they_are_fewer(
    accumulate, single, small_train, tmp_path
):
    accumulated = Gradients()
    small_train(**FIVE_STEPS, out=tmp_path / "run", accumulate=accumulate, callbacks=[accumulated])
    expected = [torch.stack(single[at : at + accumulate]).mean(0) for at in range(0, 5, accumulate)]
    torch.testing.assert_close(accumulated.steps, expected, rtol=1e-3, atol=1e-5)


class Drawing(Baseline):
    """Notes a number that each step draws."""

    drawn: list[float] = []  # noqa: RUF012

    def forward(self, batch):
        self.drawn.append(torch.rand(()).item())
        return super().forward(batch)


def test_no_two_steps_draw_the_same(small_train, tmp_path):
    small_train(epochs=3, method=Drawing, out=tmp_path / "run")
    assert len(set(Drawing.drawn)) == len(Drawing.drawn) > 3
