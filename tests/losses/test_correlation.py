"""DIST's losses against their definition in float64, by their invariances, and where probabilities are next to 0."""

import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from classmates.losses.correlation import inter_class, intra_class

LOSSES = {"inter": inter_class, "intra": intra_class}


def logits(seed: int, rows: int = 6, classes: int = 5, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def by_definition(name: str, student: Tensor, teacher: Tensor, temperature: float) -> float:
    probabilities = [(one.double() / temperature).softmax(1).numpy() for one in (student, teacher)]
    if name == "intra":
        probabilities = [one.T for one in probabilities]
    rows = [1 - pearsonr(*pair).statistic for pair in zip(*probabilities, strict=True)]
    return sum(rows) / len(rows)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_the_mean_of_one_minus_pearsons_correlation(name: str, temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    loss = LOSSES[name](student, teacher, temperature)
    assert loss.item() == pytest.approx(by_definition(name, student, teacher, temperature), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_that_of_the_definition_and_the_students_alone(name: str) -> None:
    student, teacher = logits(0).double().requires_grad_(), logits(1).requires_grad_()
    LOSSES[name](student, teacher, 2.0).backward()
    assert teacher.grad is None
    for place in ((0, 0), (2, 3), (5, 4)):
        step = torch.zeros(6, 5)
        step[place] = 1e-4
        up, down = (by_definition(name, student.detach() + sign * step, teacher.detach(), 2.0) for sign in (1, -1))
        assert student.grad[place].item() == pytest.approx((up - down) / 2e-4, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_known_values(name: str) -> None:
    same = logits(0)
    assert LOSSES[name](same, same + 3.0, 2.0).item() == pytest.approx(0, abs=1e-6)
    opposite = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert LOSSES[name](opposite, -opposite, 1.0).item() == pytest.approx(2)


def test_what_only_scales_and_moves_a_row_of_probabilities_is_no_difference() -> None:
    teacher = logits(1).softmax(1)
    student = 0.5 * teacher + 0.5 / 5
    assert inter_class(student.log(), teacher.log(), 1.0).item() == pytest.approx(0, abs=1e-6)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])  # what is mixed in is the same for all images
    student = 0.3 * teacher + 0.7 * shares
    assert intra_class(student.log(), teacher.log(), 1.0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_sure_teacher_still_teaches(name: str) -> None:
    """Its probabilities of most classes, and their squares even more, are 0 in float32; it ranks images by them."""
    teacher = logits(1) + 60 * torch.eye(6, 5)
    student = (logits(0) + 60 * torch.eye(6, 5)).requires_grad_()
    loss = LOSSES[name](student, teacher, 1.0)
    assert loss.item() == pytest.approx(by_definition(name, student.detach(), teacher, 1.0), rel=1e-4)
    loss.backward()
    assert student.grad.isfinite().all()


def test_a_class_that_no_image_is_taken_for_still_teaches() -> None:
    """Its probabilities are next to 0 for every image; they rank the images as those of other classes do."""
    never = 100 * (torch.arange(5) == 2)
    student, teacher = logits(0) - never, logits(1) - never
    loss = intra_class(student, teacher, 1.0)
    assert loss.item() == pytest.approx(by_definition("intra", student, teacher, 1.0), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_where_nothing_varies_the_gradient_stays_finite(name: str) -> None:
    student = torch.zeros(6, 5, requires_grad=True)
    loss = LOSSES[name](student, logits(1), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10
    one = torch.zeros(1, 5, requires_grad=True)
    LOSSES[name](one, logits(1, rows=1), 1.0).backward()
    assert one.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    loss = LOSSES[name](student, teacher, 1.0)
    assert loss.dtype == torch.float32
    assert loss == LOSSES[name](student.float(), teacher.float(), 1.0)
