"""Optimisers and schedules by name; the fused step is the plain one; rates that decay from layer to layer."""

import inspect
import math
from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn

from classmates.errors import UserError
from classmates.methods import DML, MCL, Baseline
from classmates.training.optimisation import SCHEDULES, layer_groups, make_optimizer, make_schedule


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3, dtype=dtype)), nn.Parameter(torch.randn(5, dtype=dtype))]


@pytest.mark.parametrize(
    ("name", "arguments", "fused"),
    [
        ("SGD", {}, True),
        ("adamw", {}, True),
        ("SGD", {"fused": False}, False),
        ("SGD", {"foreach": True}, None),
        ("lamb", {}, None),
    ],
)
def test_fused_where_there_is_such_a_step(name, arguments, fused):
    assert make_optimizer(name, parameters(), 0.1, arguments).param_groups[0].get("fused") == fused


def test_not_fused_where_it_may_not_be():
    assert make_optimizer("SGD", parameters(), 0.1, {}, fused=False).param_groups[0]["fused"] is None
    assert make_optimizer("SGD", parameters(torch.complex64), 0.1, {}).param_groups[0]["fused"] is None
    on_meta = [nn.Parameter(torch.empty(3, device="meta"))]
    assert make_optimizer("SGD", on_meta, 0.1, {}).param_groups[0]["fused"] is None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_fused_step_is_the_plain_one(name, memory_format):
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 5, 3).to(memory_format=memory_format)
        optimizer = make_optimizer(name, layer.parameters(), 0.1, {}, fused=fused)
        for step in range(3):
            optimizer.zero_grad()
            layer(torch.full((2, 3, 8, 8), float(step))).square().mean().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        weights.append(layer.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def rates_of(name, arguments, *, epochs=8, steps_per_epoch=5):
    """The rate of every step of a run at 0.1."""
    optimizer = make_optimizer("SGD", parameters(), 0.1, {})
    schedule, counts = make_schedule(name, optimizer, arguments, epochs=epochs, steps_per_epoch=steps_per_epoch)
    rates = []
    for step in range(1, epochs * steps_per_epoch + 1):
        rates += schedule.get_last_lr()
        optimizer.step()
        if counts == "step" or step % steps_per_epoch == 0:
            schedule.step()
    return rates


def test_a_cosine_falls_over_all_epochs():
    expected = [0.05 * (1 + math.cos(math.pi * epoch / 8)) for epoch in range(8) for _ in range(5)]
    assert rates_of("CosineAnnealingLR", {}) == pytest.approx(expected)


def test_one_cycle_rises_to_the_rate_and_falls_over_all_steps():
    rates = rates_of("OneCycleLR", {"pct_start": 0.1, "cycle_momentum": False})
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 3  # of 40, after a tenth
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 25 / 1e4)


@pytest.mark.parametrize("share", [0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5])
def test_one_cycle_has_a_rate_for_every_step_of_short_runs_too(share):
    for steps in range(1, 41):
        rates = rates_of("OneCycleLR", {"pct_start": share}, epochs=steps, steps_per_epoch=1)
        assert all(0 < rate <= 0.1 + 1e-12 for rate in rates), f"{steps} steps: {rates}"
        assert rates[-1] == pytest.approx(0.1 / 25 / 1e4), f"{steps} steps"


def test_a_peak_that_would_take_the_place_of_every_parts_own_rate_is_told():
    with pytest.raises(UserError, match=r"schedule_args\.max_lr: OneCycleLR rises to the learning rate.*give lr"):
        rates_of("OneCycleLR", {"max_lr": 0.3})


def test_sgd_is_that_of_the_papers():
    optimizer = make_optimizer("SGD", parameters(), 0.1, {})
    assert {name: optimizer.defaults[name] for name in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
    }


def test_a_constant_rate_is_the_one_that_was_given():
    assert rates_of("ConstantLR", {}) == [0.1] * 40


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_a_schedule_cannot_do_without_is_asked_for(name):
    """What the run does not say either."""
    arguments = inspect.signature(SCHEDULES[name]).parameters.values()
    required = [argument.name for argument in arguments if argument.default is argument.empty][1:]
    missing = [one for one in required if one not in ("T_max", "max_lr")]
    made = make_optimizer("SGD", parameters(), 0.1, {})
    message = f"schedule {name} needs its {missing[0]}: say --schedule_args.{missing[0]}" if missing else ""
    with pytest.raises(UserError, match=message) if missing else nullcontext():
        make_schedule(name, made, {}, epochs=4, steps_per_epoch=2)


LAYERS = {
    "of one's own": {"stage1": 1 / 8, "stage2": 1 / 4, "stage3": 1 / 2, "fc": 1},
    "resnet8": {"stem": 1 / 8, "layer1": 1 / 8, "layer2": 1 / 4, "layer3": 1 / 2, "fc": 1},
    "resnet10t": {
        "conv1": 1 / 32,
        "bn1": 1 / 32,
        **{f"layer{number}": 2.0 ** (number - 5) for number in range(1, 5)},
        "fc": 1,
    },
}


@pytest.mark.parametrize("peers", [1, 3])
@pytest.mark.parametrize("model", LAYERS)
def test_the_rate_of_a_layer_is_that_of_the_next_times_the_decay(tiny_network, tiny_data, model, peers):
    """Layers are timm's, or else the network's stages."""
    network = tiny_network() if model not in timm.list_models() else timm.create_model(model, num_classes=4)
    method = Baseline(network, tiny_data) if peers == 1 else DML(network, tiny_data, peers=peers, share=1)
    expected = LAYERS[model] | {"new": 1}
    new = nn.Linear(3, 2)
    every = {f"new.{name}": one for name, one in new.named_parameters()} | dict(method.named_parameters())
    groups = layer_groups(method.networks, every.values(), 0.1, 0.5)
    found = {id(one): group for group in groups for one in group["params"]}
    assert found.keys() == set(map(id, every.values()))
    for name, one in every.items():
        layer = next(part for part in name.split(".") if part in expected)
        assert found[id(one)]["lr"] == pytest.approx(0.1 * expected[layer]), name
        exempt = one.ndim == 1 and layer != "new"
        assert found[id(one)].get("weight_decay") == (0.0 if exempt else None), name


def test_every_parameter_is_in_one_group(tiny_network, tiny_data):
    method = MCL(tiny_network(), tiny_data, peers=3, num_negatives=8, dimension=4)
    groups = list(layer_groups(method.networks, method.parameters(), 0.1, 0.7))
    members = [id(one) for group in groups for one in group["params"]]
    assert sorted(members) == sorted(id(one) for one in method.parameters())
    own = {id(one) for one in method.contrast.projections.parameters()}
    assert {group["lr"] for group in groups if own & set(map(id, group["params"]))} == {0.1}
