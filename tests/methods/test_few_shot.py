"""Every method under few-shot learning: it learns to tell new drawings apart, or says why it cannot be trained so."""

import re

import pytest
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.methods import Baseline, Method
from classmates.methods.teacher_method import TeacherMethod
from classmates.networks.building.embedding import Classified
from classmates.tasks.few_shot import FewShot
from tests.conftest import TinyNetwork
from tests.fixtures.drawings import drawings
from tests.methods.conftest import with_views

TASK = FewShot(way=6, shot=1, queries=3, episodes=12, eval_way=4, eval_queries=6, eval_episodes=150)
EPOCHS = 4
REFUSAL = "need different batches: they cannot be trained together|teacher .* has no classifier"
NEVER_REFUSED = {"Baseline", "RKD", "CLILR", "ONE", "OKDDip", "MCL", "DML", "AT", "SP", "FitNet", "LabelSmoothing"}
OPTIONS = {"MCL": {"num_negatives": 64}, "AT": {"attention": 100.0}}


@pytest.fixture(scope="module")
def data() -> ImageData:
    return drawings(train=16, each=10)


def inputs(data: ImageData, split: str) -> tuple[Tensor, Tensor]:
    """The images of a split as networks get them, and their labels."""
    part = getattr(data, split)
    return (part.images.permute(0, 3, 1, 2) / 255 - data.mean[0]) / data.std[0], part.labels


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return TinyNetwork(16, (16, 24, 32), in_chans=1)


def spec(data: ImageData, task: FewShot = TASK) -> DataSpec:
    return DataSpec(data.num_classes, data.train.labels, data.input_shape, data.mean, data.std, False, task)


def train(method: Method, data: ImageData) -> list[float]:
    """The mean loss of every epoch."""
    images, labels = inputs(data, "train")
    sampler = EpochSampler(method.sampling, labels, TASK.sampling.group)
    optimizer = torch.optim.Adam(method.parameters(), lr=5e-3)
    losses = []
    for epoch in range(EPOCHS):
        method.epoch, method.epochs = epoch, EPOCHS
        sampler.set_epoch(epoch)
        totals = []
        for chosen in sampler:
            indices = torch.tensor(chosen)
            output = method(with_views(Batch(images[indices], labels[indices], indices), method))
            optimizer.zero_grad()
            output.total.backward()
            optimizer.step()
            totals.append(output.terms["episode"].item())
        losses.append(sum(totals) / len(totals))
    return losses


@torch.no_grad()
def accuracy(student: nn.Module, data: ImageData) -> float:
    images, labels = inputs(data, "test")
    return TASK.protocol.score(student.eval()(images), labels)["accuracy"].value


@pytest.fixture(scope="module")
def teacher(data: ImageData) -> nn.Module:
    method = Baseline(network(seed=7), spec(data))
    train(method, data)
    return method.student()


@pytest.fixture(scope="module")
def untrained(data: ImageData) -> float:
    return accuracy(Baseline(network(), spec(data)).student(), data)


def make(kind: type[Method], data: ImageData, teacher: nn.Module) -> Method:
    options = dict(OPTIONS.get(kind.__name__, {}))
    if issubclass(kind, TeacherMethod) and kind.needs_teacher:
        options["teacher"] = teacher
    return kind(network(), spec(data), **options)


def make_if_possible(kind: type[Method], data: ImageData, teacher: nn.Module) -> tuple[Method | None, str]:
    """The method, or why it refuses the task."""
    try:
        return make(kind, data, teacher), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.filterwarnings("ignore:num_negatives", "ignore:views")
def test_the_student_learns_to_tell_new_classes_apart(
    kind: type[Method], data: ImageData, teacher: nn.Module, untrained: float
) -> None:
    method, refusal = make_if_possible(kind, data, teacher)
    if method is None:
        assert re.search(REFUSAL, refusal)
        assert kind.__name__ not in NEVER_REFUSED
        return
    assert all(isinstance(one, Classified) for one in method.networks.networks)
    losses = train(method, data)
    assert losses[-1] < losses[0]
    assert accuracy(method.student(), data) > untrained + 0.05  # 0.45 untrained, 0.67 after a few episodes
