"""No method makes the host wait for the device in a step: nothing looks at a value or lets it decide a shape."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.harness import counts
from classmates import methods
from classmates.contracts import Batch, DataSpec
from classmates.methods import Method
from classmates.training.module import TermMeter
from classmates.training.optimisation import make_optimizer

EXPORTED = [getattr(methods, name) for name in methods.__all__]
CONCRETE = [one for one in EXPORTED if issubclass(one, Method) and not inspect.isabstract(one)]


@pytest.mark.filterwarnings("ignore:num_negatives")
@pytest.mark.parametrize("kind", CONCRETE)
def test_a_step_waits_for_nothing(
    kind: type[Method],
    build: Callable[..., Method],
    batch_for: Callable[[Method], Batch],
    tiny_network: Callable[..., nn.Module],
    tiny_data: DataSpec,
) -> None:
    torch.manual_seed(0)
    method = build(kind, tiny_network(), tiny_data)
    batch = batch_for(method)
    optimizer = make_optimizer("SGD", method.parameters(), 0.01, {})
    meter = TermMeter()

    def step() -> None:
        optimizer.zero_grad()
        output = method(batch)
        meter.update(output, step=0)
        output.total.backward()
        optimizer.step()

    step()  # the first step may prepare what later ones need
    counted = counts(step)
    assert counted.operations > 20
    assert counted.synchronisations == 0
