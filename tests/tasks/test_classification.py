"""What classification teaches every network, and which data it refuses."""

import math

import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import Batch, NetworkOutput
from classmates.data.batches.sampling import Shuffled
from classmates.data.loading import load
from classmates.errors import UserError
from classmates.methods import DML, Baseline
from classmates.tasks.classification import Classification, balanced_weights


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


@pytest.mark.parametrize("targets", [None, "soft"])
def test_class_weights_are_torchs(targets):
    task = Classification(class_weights=(0.5, 2.0, 0.0, 1.5))
    random = torch.Generator().manual_seed(0)
    outputs = [output_of(torch.randn(5, 4, generator=random)) for _ in range(3)]
    soft = torch.rand(5, 4, generator=random).softmax(1) if targets else None
    batch = Batch(torch.zeros(5, 1, 2, 2), torch.tensor([0, 2, 1, 3, 3]), torch.arange(5), soft)
    weight = torch.tensor(task.class_weights)
    expected = sum(F.cross_entropy(output.logits, batch.truth, weight) for output in outputs)
    torch.testing.assert_close(task.terms(outputs, batch)["ce"](), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_classes_that_weigh_nothing_teaches_nothing(smoothing):
    task = Classification(class_weights=(0.0, 2.0))
    logits = torch.randn(1, 3, 2, requires_grad=True)
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.long), torch.arange(3))
    loss = task.cross_entropy(logits, batch, label_smoothing=smoothing)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_balanced_weights_make_all_classes_count_the_same():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    weights = balanced_weights(labels, ("a", "b", "c"))
    assert weights == (pytest.approx(2 / 3), pytest.approx(4 / 3), pytest.approx(4 / 3))
    assert torch.tensor(weights)[labels].mean() == pytest.approx(1)
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.zeros(12, 1, 2, 2), labels, torch.arange(12))
    by_class = torch.stack([F.cross_entropy(logits[labels == k], labels[labels == k]) for k in range(3)])
    ce = Classification(class_weights=weights).terms([output_of(logits)], batch)["ce"]()
    torch.testing.assert_close(ce, by_class.mean())


def test_class_weights_that_cannot_be():
    with pytest.raises(UserError, match="no training image of classes 'b', 'd'; add images, or remove the class"):
        balanced_weights(torch.tensor([0, 2, 2]), ("a", "b", "c", "d"))
    for wrong in ((1.0, -1.0), (0.0, 0.0), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(UserError, match="give numbers of 0 or more, not all of them 0"):
            Classification(class_weights=wrong)
    with pytest.raises(UserError, match=r"2 numbers, but 'digits' has 10 classes: give one a class"):
        Classification(class_weights=(1.0, 2.0)).check_data(load("digits"))
