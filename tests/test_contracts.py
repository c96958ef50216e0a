import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import classmates
from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError


@pytest.mark.parametrize(
    "labels", [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1], dtype=np.int32), torch.tensor([0, 2, 1])]
)
def test_labels_of_any_kind_become_a_tensor(labels: Any) -> None:
    data = DataSpec(3, labels)
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == [0, 2, 1]
    assert data.input_shape is None


def test_an_empty_class_is_no_error() -> None:
    assert DataSpec(5, [0, 1]).num_classes == 5


@pytest.mark.parametrize(
    ("num_classes", "labels", "message"),
    [
        (1, [0, 0], "num_classes is 1; a classifier needs at least 2 classes"),
        (3, [0, 3], "labels go from 0 to 3, but num_classes is 3: they must lie in 0..2"),
        (3, [-1, 2], "labels go from -1 to 2"),
        (3, [], "labels must be one class number per training sample, got shape (0,)"),
        (3, [[0, 1], [1, 2]], "labels must be one class number per training sample, got shape (2, 2)"),
    ],
)
def test_data_that_cannot_be(num_classes: int, labels: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        DataSpec(num_classes, labels)


def test_a_specification_does_not_change() -> None:
    with pytest.raises(AttributeError):
        DataSpec(2, [0, 1]).num_classes = 3  # type: ignore[misc]


def test_batches_and_outputs_are_tuples_with_names() -> None:
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([5, 6]))
    images, labels, indices, targets, views = batch
    assert targets is None
    assert views == ()
    assert images is batch.images
    assert labels is batch.labels
    assert indices is batch.indices
    output = NetworkOutput(logits=torch.zeros(2, 3), embedding=torch.zeros(2, 8), stages=(torch.zeros(2, 8, 1, 1),))
    assert output.stages[-1].shape == (2, 8, 1, 1)


def test_a_part_of_a_batch_and_what_is_true_of_it() -> None:
    batch = Batch(torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    assert batch.truth is batch.labels
    assert batch.take(slice(1, None, 2)).indices.tolist() == [1, 3]
    soft = batch._replace(targets=torch.eye(4)).take(torch.tensor([2]))
    assert soft.truth.tolist() == [[0, 0, 1, 0]]
    assert soft.labels.tolist() == [2]
    views = torch.randn(4, 3, 2, 2), batch.images
    viewed = batch._replace(views=views).take(slice(1, None, 2))
    assert torch.equal(viewed.views[0], views[0][1::2])
    assert torch.equal(viewed.views[1], viewed.images)


def test_a_method_alone_in_somebody_s_own_loop(tiny_network: Callable[..., nn.Module]) -> None:
    model = tiny_network(num_classes=100)
    train_labels = torch.arange(400) % 100
    images, indices = torch.randn(8, 3, 32, 32), torch.arange(8)
    labels = train_labels[indices]

    method = classmates.MCL(model, classmates.DataSpec(num_classes=100, labels=train_labels))
    loss = method(classmates.Batch(images, labels, indices)).total
    loss.backward()

    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_labels_that_are_no_class_numbers_are_refused():
    with pytest.raises(UserError, match="float32: they must be class numbers"):
        DataSpec(2, torch.tensor([0.0, 1.0]))
