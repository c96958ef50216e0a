import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.losses.decoupled import non_target_kl, other_logits, target_kl
from classmates.losses.soft_targets import softened_kl


def by_hand(student, teacher, labels, temperature):
    """(TCKD, NCKD) image by image and class by class, in Python's float64."""
    target = non_target = 0.0
    for z, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        powers = [[math.exp(value / temperature) for value in row] for row in (z, t)]
        q, p = ([power / sum(row) for power in row] for row in powers)
        target += p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y]))
        for c in range(len(z)):
            if c != y:
                non_target += p[c] / (1 - p[y]) * math.log((p[c] / (1 - p[y])) / (q[c] / (1 - q[y])))
    return target / len(labels), non_target / len(labels)


def draw(seed, count, classes):
    random = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(count, classes, generator=random, dtype=torch.float64) for _ in range(2))
    return (*logits, torch.randint(classes, (count,), generator=random))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(3, 9), st.floats(0.7, 10))
def test_both_parts_are_the_formulas(seed, count, classes, temperature):
    student, teacher, labels = draw(seed, count, classes)
    target, non_target = by_hand(student, teacher, labels, temperature)
    assert target_kl(student, teacher, labels, temperature).item() == pytest.approx(target, rel=1e-4, abs=1e-6)
    assert non_target_kl(student, teacher, labels, temperature).item() == pytest.approx(
        non_target, rel=1e-4, abs=1e-6
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.7, 10))
def test_together_they_are_the_kl_of_all_classes(seed, temperature):
    """Image by image: the second part weighs 1 − p_y of the teacher."""
    student, teacher, labels = draw(seed, 1, 5)
    unsure = 1 - (teacher / temperature).softmax(1)[0, labels[0]]
    whole = target_kl(student, teacher, labels, temperature)
    whole = whole + unsure * non_target_kl(student, teacher, labels, temperature)
    torch.testing.assert_close(whole.float(), softened_kl(student, teacher, temperature), rtol=1e-4, atol=1e-6)


def test_the_true_class_is_left_out():
    logits = torch.arange(8.0).view(2, 4)
    assert other_logits(logits, torch.tensor([0, 2])).tolist() == [[1, 2, 3], [4, 5, 7]]


def test_a_teacher_that_is_certain_leaves_all_finite():
    """1 − p_y is 0 in float32 here; its logarithm is not."""
    student = torch.tensor([[200.0, 0.0, -3.0]], requires_grad=True)
    teacher, labels = torch.tensor([[400.0, 1.0, 0.0]]), torch.tensor([0])
    (target_kl(student, teacher, labels, 1.0) + non_target_kl(student, teacher, labels, 1.0)).backward()
    assert student.grad.isfinite().all()
    assert target_kl(-student, teacher, labels, 1.0).item() == pytest.approx(203, rel=1e-3)


def test_only_the_student_learns():
    student, teacher, labels = draw(0, 4, 5)
    student.requires_grad_()
    teacher.requires_grad_()
    (target_kl(student, teacher, labels, 2.0) + non_target_kl(student, teacher, labels, 2.0)).backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad.sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-6, rtol=0)
