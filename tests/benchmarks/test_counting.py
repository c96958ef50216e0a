"""The counters count what is there, on networks small enough to count by hand."""

import pytest
import torch
from torch import nn

from benchmarks.harness import counts, flops, peak_memory, saved_bytes

FLOAT = 4


@pytest.fixture
def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128, bias=False), nn.ReLU(), nn.Linear(128, 32, bias=False))


def test_saved_bytes_are_what_the_call_made(layers: nn.Sequential) -> None:
    inputs = torch.randn(10, 64)
    assert saved_bytes(lambda: layers(inputs)) == 10 * 128 * FLOAT  # ReLU's result, kept twice, counted once
    made = saved_bytes(lambda: layers(torch.randn(10, 64)))
    assert made == 10 * (128 + 64) * FLOAT  # inputs of the call's own count
    with torch.no_grad():
        assert saved_bytes(lambda: layers(inputs)) == 0


def test_what_the_call_frees_hides_nothing_of_what_it_keeps(layers: nn.Sequential) -> None:
    inputs = torch.randn(10, 64)
    old = [torch.randn(10, 128) for _ in range(20)]

    def replace() -> None:
        old.clear()
        layers(inputs)

    assert saved_bytes(replace) == 10 * 128 * FLOAT


@pytest.mark.filterwarnings("ignore:Memory block of unknown size")
def test_peak_memory_is_the_most_that_lives_at_once() -> None:
    mebibyte = 2**20 // FLOAT

    def one_after_the_other() -> None:
        for _ in range(5):
            torch.zeros(3 * mebibyte)

    assert peak_memory(one_after_the_other) == pytest.approx(3, abs=0.01)
    assert peak_memory(lambda: [torch.zeros(3 * mebibyte) for _ in range(5)]) == pytest.approx(15, abs=0.01)


def test_flops_of_forward_and_backward(layers: nn.Sequential) -> None:
    inputs = torch.randn(10, 64)
    forward = 2 * 10 * (64 * 128 + 128 * 32)
    assert flops(lambda: layers(inputs)) == forward
    assert flops(lambda: layers(inputs).sum().backward()) == 2 * forward + 2 * 10 * 128 * 32


def test_operations_are_counted_without_views() -> None:
    one = torch.randn(4, 6)
    assert counts(lambda: one.t().view(6, 4).unsqueeze(0)) == (0, 0)
    assert counts(lambda: (one + one) * one.t().t()) == (2, 0)


@pytest.mark.parametrize(
    "look",
    [
        lambda one: one.sum().item(),
        lambda one: bool(one.sum() > 0),
        lambda one: float(one[0]),
        lambda one: one.tolist(),
        lambda one: one.cpu(),
        lambda one: one.numpy(),
        lambda one: one.nonzero(),
        lambda one: one[one > 0],
        lambda one: one.masked_select(one > 0),
        lambda one: one.unique(),
        lambda one: one.equal(one + 1),
        lambda one: one.index_put_((one > 0,), torch.tensor(0.0)),
    ],
)
def test_every_look_at_a_value_counts(look) -> None:
    assert counts(lambda: look(torch.arange(5.0))).synchronisations == 1


@pytest.mark.parametrize(
    "harmless", [lambda one: one[one.argsort()], lambda one: one.where(one > 0, 0), lambda one: one.float().shape]
)
def test_what_needs_no_look_does_not_count(harmless) -> None:
    assert counts(lambda: harmless(torch.arange(5.0))).synchronisations == 0
