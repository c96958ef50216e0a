"""Any method with what it needs: a teacher, and batches of its own kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.methods import Method
from classmates.methods.teacher_method import TeacherMethod


@pytest.fixture
def build(tiny_network: Callable[..., nn.Module]) -> Callable[..., Method]:
    """Makes a method with its defaults; one that needs a teacher gets another tiny network."""

    def make(kind: type[Method], network: nn.Module, data: DataSpec) -> Method:
        if issubclass(kind, TeacherMethod):
            return kind(network, data, teacher=tiny_network(num_classes=data.num_classes, seed=9))
        return kind(network, data)

    return make


@pytest.fixture
def batch_for(tiny_data: DataSpec) -> Callable[[Method], Batch]:
    """The first batch of 24 images that a method's sampler makes of the tiny data, as noise."""

    def make(method: Method) -> Batch:
        indices = torch.tensor(next(iter(method.sampling(tiny_data.labels, 24))))
        noise = torch.randn(len(tiny_data.labels), *tiny_data.input_shape, generator=torch.Generator().manual_seed(0))
        return Batch(noise[indices], tiny_data.labels[indices], indices)

    return make
