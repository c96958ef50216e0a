"""Optimisers and schedules by name; the fused step is the plain one."""

import inspect
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from classmates.errors import UserError
from classmates.training.optimisation import SCHEDULES, make_optimizer, make_schedule


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


def test_a_constant_rate_is_the_one_that_was_given():
    optimizer = make_optimizer("SGD", parameters(), 0.1, {})
    schedule, _ = make_schedule("ConstantLR", optimizer, {}, epochs=4, steps_per_epoch=2)
    rates = []
    for _ in range(4):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == [0.1] * 4


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
