"""Every method learns: real digits, 500 labels, seconds, and a loop of nothing but PyTorch."""

import pytest
import timm
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.data.batches.samplers import EpochSampler
from classmates.methods import Baseline, Method
from tests.methods.conftest import Build, with_views

EPOCHS = 5
BATCH = 48  # divides into pairs, triplets and eights


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Images [1797, 1, 8, 8], normalised, and labels; the first 500 are for training, the rest is held out."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8)[order]
    return (images - images[:500].mean()) / images[:500].std(), torch.tensor(labels)[order]


def train(method: Method, images: Tensor, labels: Tensor) -> tuple[list[float], float]:
    """The mean loss of every epoch, and the student's accuracy on the images that it was not trained on."""
    sampler = EpochSampler(method.sampling, labels[:500], BATCH)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=EPOCHS * len(sampler))
    losses = []
    for epoch in range(EPOCHS):
        method.epoch, method.epochs = epoch, EPOCHS
        sampler.set_epoch(epoch)
        total = 0.0
        for chosen in sampler:
            indices = torch.tensor(chosen)
            output = method(with_views(Batch(images[indices], labels[indices], indices), method))
            assert all(term.isfinite() for term in output.terms.values())
            optimizer.zero_grad()
            output.total.backward()
            optimizer.step()
            schedule.step()
            total += output.total.item()
        losses.append(total / len(sampler))
    with torch.no_grad():
        student = method.student().eval()
        return losses, (student(images[500:]).argmax(1) == labels[500:]).float().mean().item()


def small_resnet() -> torch.nn.Module:
    return timm.create_model("resnet8", num_classes=10, in_chans=1)


@pytest.fixture(scope="module")
def teacher(digits: tuple[Tensor, Tensor]) -> torch.nn.Module:
    """A network that has learnt the digits before."""
    torch.manual_seed(1)
    images, labels = digits
    method = Baseline(small_resnet(), DataSpec(10, labels[:500], (1, 8, 8)))
    train(method, images, labels)
    return method.student()


@pytest.mark.filterwarnings("ignore:num_negatives")
def test_the_student_learns(
    kind: type[Method], build: Build, digits: tuple[Tensor, Tensor], teacher: torch.nn.Module
) -> None:
    torch.manual_seed(0)
    images, labels = digits
    method = build(kind, small_resnet(), DataSpec(10, labels[:500], (1, 8, 8)), teacher=teacher)
    losses, accuracy = train(method, images, labels)
    assert losses[-1] < losses[0]
    assert accuracy > 0.5  # chance is 0.1; nearly all reach 0.95 here, AT with its weight of 1000 is the slow one
