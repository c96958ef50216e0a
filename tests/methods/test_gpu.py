"""On a GPU every method computes what it computes on the CPU, waits for nothing, and learns. ``make gpu``."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.methods import Method
from classmates.training.optimisation import make_optimizer
from tests.methods.conftest import BatchFor, Build

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:num_negatives")]
Make = Callable[..., nn.Module]


def on_gpu(batch: Batch) -> Batch:
    return batch._replace(
        images=batch.images.cuda(),
        labels=batch.labels.cuda(),
        indices=batch.indices.cuda(),
        views=tuple(view.cuda() for view in batch.views),
    )


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def test_terms_and_gradients_are_those_of_the_cpu(
    kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    torch.manual_seed(0)
    slow = build(kind, tiny_network(), tiny_data)
    fast = copy.deepcopy(slow).cuda()
    outputs = []
    for method, its_batch in ((slow, batch_for(slow)), (fast, on_gpu(batch_for(slow)))):
        torch.manual_seed(1)
        outputs.append(method(its_batch))
        outputs[-1].total.backward()
    expected, found = outputs
    for name, term in expected.terms.items():
        torch.testing.assert_close(
            found.terms[name].cpu(), term, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    for (name, on_cpu), moved in zip(slow.named_parameters(), fast.parameters(), strict=True):
        if on_cpu.grad is not None:
            difference = (moved.grad.cpu() - on_cpu.grad).norm()
            assert difference < 1e-3 * on_cpu.grad.norm() + 1e-4, name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_waits_for_nothing_and_lowers_the_loss(
    precision: str, kind: type[Method], build: Build, batch_for: BatchFor, tiny_network: Make, tiny_data: DataSpec
) -> None:
    torch.manual_seed(0)
    method = build(kind, tiny_network(), tiny_data).cuda()
    batch = on_gpu(batch_for(method))
    optimizer = make_optimizer("SGD", method.parameters(), 0.001, {})
    losses = []
    for number in range(12):
        if number == 2:  # the first may prepare what later ones need
            torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
                output = method(batch)
            output.total.backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        losses.append(output.total.detach())
    assert losses[-1] < losses[2]
