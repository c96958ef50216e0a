"""Rates that cannot work are told before, weights beyond use at the next check, and no checkpoint is made of them."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from classmates.errors import NonFiniteLoss, UserError
from classmates.training.checkpoints import load_checkpoint
from classmates.training.divergence import LARGEST, check_rate, check_weights, highest_rate
from classmates.training.optimisation import make_optimizer


def optimizer_of(name, lr, **arguments):
    return make_optimizer(name, [nn.Parameter(torch.ones(1, dtype=torch.float64))], lr, arguments)


DECAYING = [
    ("SGD", {"momentum": 0.0, "nesterov": False}),
    ("SGD", {"momentum": 0.5, "nesterov": False}),
    ("SGD", {"momentum": 0.9, "nesterov": False}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.99, "nesterov": True}),
    ("AdamW", {}),
    ("Adam", {"decoupled_weight_decay": True}),
]


@pytest.mark.parametrize(("name", "arguments"), DECAYING)
@pytest.mark.parametrize(("factor", "grows"), [(0.99, False), (1.01, True)])
def test_weight_decay_alone_makes_weights_grow_from_the_highest_rate_on(name, arguments, factor, grows):
    decay = {"weight_decay": 0.1, **arguments}
    tried = optimizer_of(name, 0.1, **decay)
    rate = factor * highest_rate(tried, tried.param_groups[0])
    optimizer = optimizer_of(name, rate, **decay)
    weight = optimizer.param_groups[0]["params"][0]
    for _ in range(300):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert (weight.abs().item() > 1) is grows
    if grows:
        with pytest.raises(UserError, match=rf"weight decay 0\.1, every step of {name} .*a lower --lr"):
            check_rate(optimizer)
    else:
        check_rate(optimizer)


@pytest.mark.parametrize(
    ("name", "lr", "arguments", "noted"),
    [
        ("SGD", 1.0, {}, False),
        ("SGD", 1000.0, {}, True),
        ("SGD", 1e30, {"weight_decay": 0.0}, True),
        ("Adam", 0.01, {}, False),
        ("Adam", 1.0, {"weight_decay": 0.1}, True),  # its decay is part of the gradient, which is normalised
        ("lamb", 0.01, {}, False),
        ("lamb", 1.0, {}, True),
    ],
)
def test_rates_far_above_what_is_usual_are_noted(name, lr, arguments, noted):
    notes = check_rate(optimizer_of(name, lr, **arguments))
    assert len(notes) == noted
    assert all(f"lr={lr:g}" in note and "most likely diverge" in note for note in notes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -3.9e29, 2 * LARGEST])
@pytest.mark.parametrize("what", ["weight", "statistic"])
def test_numbers_beyond_use_are_named_with_their_value(what, value):
    tensors = {"weight": torch.ones(3), "statistic": torch.ones(2, 2)}
    counts = {"counts": torch.tensor(10**9)}
    groups = {"weight": tensors["weight"]}, {"statistic": tensors["statistic"], **counts}
    check_weights(*groups, step=7)
    tensors[what].view(-1)[1] = value if what == "weight" else value * LARGEST
    with pytest.raises(NonFiniteLoss, match=rf"by step 7: the largest number in '{what}' is"):
        check_weights(*groups, step=7)


class Poison(Callback):
    """Spoils a weight after the update of the last step of an epoch, of which no loss of that epoch knows."""

    def __init__(self, value, epoch=1):
        self.value, self.epoch = value, epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx + 1 == trainer.num_training_batches:
            next(iter(module.method.parameters())).data.view(-1)[0] = self.value


@pytest.mark.parametrize(
    ("value", "settings"),
    [(math.nan, {"val_fraction": 0}), (math.nan, {}), (math.nan, {"checkpoint_steps": 1}), (3.9e29, {})],
)
def test_no_checkpoint_is_made_of_weights_beyond_use(small_train, tmp_path, value, settings):
    with pytest.raises(NonFiniteLoss, match="training has diverged by step 8"):
        small_train(out=tmp_path / "run", epochs=2, callbacks=[Poison(value)], **settings)
    kept = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert all(tensor.isfinite().all() and tensor.abs().max() < LARGEST for tensor in kept["state_dict"].values())
    assert kept["global_step"] == (7 if "checkpoint_steps" in settings else 4)


@pytest.mark.parametrize("lr", [1e30, 1000.0])
def test_a_rate_that_diverges_ends_in_a_sentence(small_train, tmp_path, capsys, lr):
    with pytest.raises((UserError, NonFiniteLoss), match=r"[aA] lower --lr"):
        small_train(out=tmp_path / "run", lr=lr)
    assert (tmp_path / "run").exists() is (lr == 1000.0)
    assert ("most likely diverge" in capsys.readouterr().err) is (lr == 1000.0)
