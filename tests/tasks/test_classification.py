"""What classification teaches every network, and which data it refuses."""

import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import Batch, NetworkOutput
from classmates.data.batches.sampling import Shuffled
from classmates.methods import DML, Baseline
from classmates.tasks.classification import Classification


def output_of(logits):
    return NetworkOutput(logits, torch.zeros(len(logits), 2), ())


def test_the_term_is_the_sum_over_networks_of_their_cross_entropy():
    task, labels = Classification(), torch.tensor([0, 2, 1])
    random = torch.Generator().manual_seed(0)
    outputs = [output_of(torch.randn(3, 4, generator=random)) for _ in range(3)]
    batch = Batch(torch.zeros(3, 1, 2, 2), labels, torch.arange(3))
    terms = task.terms(outputs, batch)
    assert terms.keys() == task.weights.keys() == {"ce"}
    expected = sum(F.cross_entropy(output.logits, labels) for output in outputs)
    torch.testing.assert_close(terms["ce"](), expected)
    half = [output_of(output.logits.bfloat16()) for output in outputs]
    assert task.terms(half, batch)["ce"]().dtype == torch.float32


def test_it_takes_any_batches_and_is_the_same_value_everywhere():
    assert Classification() == Classification()
    assert Classification().sampling == Shuffled()
    assert Classification().name == Classification().protocol.name == "classification"


@pytest.mark.parametrize(("kind", "count"), [(Baseline, 1), (DML, 2)])
def test_methods_learn_from_it_without_naming_it(kind, count, tiny_network, tiny_data, tiny_batch):
    method = kind(tiny_network(), tiny_data)
    output = method(tiny_batch)
    losses = [F.cross_entropy(one.logits, tiny_batch.labels) for one in output.outputs]
    assert len(losses) == count
    torch.testing.assert_close(output.terms["ce"], sum(losses))
