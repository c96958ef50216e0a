"""No method makes the host wait for the device in a step: nothing looks at a value or lets it decide a shape."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.counting import counts, waiting_lines
from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.methods import Baseline, Method
from classmates.training.module import TermMeter
from classmates.training.optimisation import make_optimizer
from tests.methods.conftest import BatchFor, Build


def step_of(method: Method, batch: Batch) -> Callable[[], None]:
    """Return a training step of a method, called twice already: the first may prepare what later ones need."""
    optimizer = make_optimizer("SGD", method.parameters(), 0.01, {})
    meter = TermMeter()

    def step() -> None:
        optimizer.zero_grad()
        output = method(batch)
        meter.update(output, step=0)
        output.total.backward()
        optimizer.step()

    for _ in range(2):
        step()
    return step


@pytest.mark.filterwarnings("ignore:num_negatives")
def test_a_step_waits_for_nothing(
    kind: type[Method],
    build: Build,
    batch_for: BatchFor,
    tiny_network: Callable[..., nn.Module],
    tiny_data: DataSpec,
) -> None:
    torch.manual_seed(0)
    method = build(kind, tiny_network(), tiny_data)
    step = step_of(method, batch_for(method))
    assert waiting_lines(step) == []
    assert counts(step).operations > 20


@pytest.mark.parametrize("negatives", ["independent", "shared", "all"])
def test_masking_what_was_never_written_waits_for_nothing(
    negatives: str, make_mcl: Callable[..., Method], tiny_batch: Batch
) -> None:
    method = make_mcl(unwritten="masked", negatives=negatives)
    assert waiting_lines(step_of(method, tiny_batch)) == []


@pytest.mark.parametrize("options", [{}, {"negatives": "shared"}, {"normaliser": "anchor"}, {"unwritten": "masked"}])
def test_a_sharded_bank_waits_for_nothing(
    options: dict[str, str], make_mcl: Callable[..., Method], tiny_batch: Batch
) -> None:
    assert waiting_lines(step_of(make_mcl(**{"bank": "sharded", "negatives": "all", **options}), tiny_batch)) == []


class Looks(Baseline):
    """Lets a value decide, as no method may."""

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        if outputs[-1].logits.max() > 0:  # the host waits here
            outputs[-1].logits.tolist()
        return {}


def test_the_line_that_waits_is_named(
    tiny_network: Callable[..., nn.Module], tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    step = step_of(Looks(tiny_network(), tiny_data), tiny_batch)
    lines = waiting_lines(step)
    assert len(lines) == counts(step).synchronisations == 2
    assert all("test_synchronisation.py" in line for line in lines)
    assert any("logits.max() > 0" in line for line in lines)
    assert any("logits.tolist()" in line for line in lines)
