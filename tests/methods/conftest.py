"""Any method with what it needs: a teacher, and batches of its own kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.methods import MCL, Method
from classmates.methods.spec import known_methods
from classmates.methods.teacher_method import TeacherMethod

Build = Callable[..., Method]
BatchFor = Callable[..., Batch]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument ``kind`` for every method, one with ``teacher_method`` for each with a teacher."""
    kinds = list(known_methods().values())
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds, ids=[kind.__name__ for kind in kinds])
    if "teacher_method" in metafunc.fixturenames:
        teacher_method = [kind for kind in kinds if issubclass(kind, TeacherMethod) and kind.needs_teacher]
        metafunc.parametrize("teacher_method", teacher_method, ids=[kind.__name__ for kind in teacher_method])


@pytest.fixture
def build(tiny_network: Callable[..., nn.Module]) -> Build:
    """Makes a method with its defaults; one that needs a teacher gets another tiny network, or the one given."""

    def make(
        kind: type[Method], network: nn.Module, data: DataSpec, *, teacher: nn.Module | None = None, **options: Any
    ) -> Method:
        if issubclass(kind, TeacherMethod) and kind.needs_teacher:
            options["teacher"] = teacher or tiny_network(num_classes=data.num_classes, seed=9)
        return kind(network, data, **options)

    return make


def with_views(batch: Batch, method: Method) -> Batch:
    """Return the batch with as many views as a method asks for: the images, moved to the side."""
    if method.views == 1:
        return batch
    moved = [batch.images.roll(pixels, 3) for pixels in range(method.views - 1, 0, -1)]
    return batch._replace(views=(*moved, batch.images))


@pytest.fixture
def batch_for(tiny_data: DataSpec) -> BatchFor:
    """A batch of 24 images, the first if not said, that a method's sampling makes of the tiny data, as noise."""

    def make(method: Method, number: int = 0) -> Batch:
        indices = torch.tensor(list(EpochSampler(method.sampling, tiny_data.labels, 24))[number])
        noise = torch.randn(len(tiny_data.labels), *tiny_data.input_shape, generator=torch.Generator().manual_seed(0))
        return with_views(Batch(noise[indices], tiny_data.labels[indices], indices), method)

    return make


@pytest.fixture
def make_mcl(tiny_network: Callable[..., nn.Module], tiny_data: DataSpec) -> Callable[..., MCL]:
    """MCL on the tiny network and data, with a K that the data can give."""

    def made(seed: int = 0, **options: Any) -> MCL:
        torch.manual_seed(seed)
        settings = {"num_negatives": 5, "dimension": 6, "negatives": "independent", **options}
        return MCL(tiny_network(seed=seed), tiny_data, **settings)

    return made
