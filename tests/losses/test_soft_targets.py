import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.losses.soft_targets import kl_weight, soft_cross_entropy, softened_kl, standardised

seeds = st.integers(0, 2**31 - 1)
temperatures = st.floats(0.5, 20.0)


def random_logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def probabilities(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def kl_by_hand(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Batchmean without T², one probability at a time, in Python's float64."""
    rows = list(zip(student.flatten(0, -2).tolist(), teacher.flatten(0, -2).tolist(), strict=True))
    total = 0.0
    for student_row, teacher_row in rows:
        q, p = probabilities(student_row, temperature), probabilities(teacher_row, temperature)
        total += sum(p_c * (math.log(p_c) - math.log(q_c)) for p_c, q_c in zip(p, q, strict=True))
    return total / len(rows)


@settings(max_examples=40)
@given(seeds, temperatures, st.sampled_from([(1, 2), (5, 7), (2, 3, 4), (2, 1, 3, 2)]))
def test_kl_is_the_formula(seed: int, temperature: float, shape: tuple[int, ...]) -> None:
    student, teacher = random_logits(seed, *shape), random_logits(seed + 1, *shape)
    expected = kl_by_hand(student, teacher, temperature)
    kl = softened_kl(student, teacher, temperature)
    assert kl.shape == ()
    assert kl.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    mean = softened_kl(student, teacher, temperature, reduction="mean")
    assert mean.item() * shape[-1] == pytest.approx(kl.item(), rel=1e-5, abs=1e-6)


@settings(max_examples=20)
@given(seeds, temperatures)
def test_kl_is_zero_at_equal_logits_and_blind_to_their_offset(seed: int, temperature: float) -> None:
    student, teacher = random_logits(seed, 4, 6), random_logits(seed + 1, 4, 6)
    assert softened_kl(student, student.clone(), temperature).item() == pytest.approx(0, abs=1e-6)
    kl = softened_kl(student, teacher, temperature)
    assert kl.item() >= 0
    offset = torch.arange(4.0)[:, None]
    torch.testing.assert_close(softened_kl(student + offset, teacher - offset, temperature), kl, rtol=1e-3, atol=1e-4)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        softened_kl(student[:, order], teacher[:, order], temperature), kl, rtol=1e-4, atol=1e-4
    )


def test_kl_known_values() -> None:
    certain, uniform = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    # p = (3/4, 1/4) against q = (1/2, 1/2), and the other way round: the direction matters.
    teacher_certain = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student_certain = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert softened_kl(uniform, certain, 1.0).item() == pytest.approx(teacher_certain)
    assert softened_kl(certain, uniform, 1.0).item() == pytest.approx(student_certain)


def test_kl_at_high_temperature_is_the_logits_distance() -> None:
    """T → ∞: T² KL → ½ Var_c(teacher − student), the matching of centred logits (Hinton et al., section 2.1)."""
    student, teacher = random_logits(0, 8, 10).double(), random_logits(1, 8, 10).double()
    limit = 0.5 * (teacher - student).var(dim=-1, correction=0).mean()
    kl = softened_kl(student, teacher, 100.0).item()
    assert kl_weight(1.0, 100.0) * kl == pytest.approx(limit.item(), rel=2e-2)


def test_kl_weight_is_the_factor_times_the_squared_temperature() -> None:
    assert kl_weight(0.9, 4.0) == pytest.approx(0.9 * 16)
    assert kl_weight(0.9, 4.0, scale=False) == 0.9


def test_kl_gradient_reaches_the_student_only() -> None:
    student, teacher = random_logits(0, 5, 4).requires_grad_(), random_logits(1, 5, 4).requires_grad_()
    softened_kl(student, teacher, 3.0).backward()
    assert teacher.grad is None
    # d(KL)/dz = (q − p) / (B T)
    expected = 1 / 3 * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1)).detach() / 5
    torch.testing.assert_close(student.grad, expected)


def test_kl_gradient_reaches_the_teacher_on_request() -> None:
    student, teacher = random_logits(0, 5, 4), random_logits(1, 5, 4).requires_grad_()
    softened_kl(student, teacher, 3.0, detach_teacher=False).backward()
    log_p, log_q = F.log_softmax(teacher.detach() / 3, dim=-1), F.log_softmax(student / 3, dim=-1)
    p = log_p.exp()
    expected = 1 / 3 * p * ((log_p - log_q) - (p * (log_p - log_q)).sum(-1, keepdim=True)) / 5
    torch.testing.assert_close(teacher.grad, expected)


def test_one_teacher_serves_several_students() -> None:
    students, teacher = random_logits(0, 3, 5, 4), random_logits(1, 5, 4)
    for reduction in ("batchmean", "mean"):
        one_by_one = [softened_kl(student, teacher, 2.0, reduction=reduction) for student in students]
        torch.testing.assert_close(
            softened_kl(students, teacher, 2.0, reduction=reduction), torch.stack(one_by_one).mean()
        )


@pytest.mark.parametrize("autocast", [True, False])
def test_kl_in_half_precision_is_computed_in_float32(autocast: bool) -> None:
    student, teacher = random_logits(0, 6, 10).bfloat16(), random_logits(1, 6, 10).bfloat16()
    expected = kl_by_hand(student, teacher, 4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        kl = softened_kl(student, teacher, 4.0)
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(expected, rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    kl = softened_kl(student, torch.tensor([[-1e4, 1e4, 0.0]]), 1.0)
    kl.backward()
    assert kl.item() == pytest.approx(2e4)
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, -1.0, 0.0]]))


def z_score(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / len(row))
    return [(z - mean) / deviation for z in row]


@settings(max_examples=20)
@given(seeds, temperatures, st.sampled_from([(1, 3), (5, 7), (2, 3, 4)]))
def test_standardised_kl_is_the_formula(seed: int, temperature: float, shape: tuple[int, ...]) -> None:
    student, teacher = random_logits(seed, *shape), random_logits(seed + 1, *shape)
    scores = [
        torch.tensor([z_score(row) for row in logits.flatten(0, -2).tolist()], dtype=torch.float64).view(shape)
        for logits in (student, teacher)
    ]
    assert softened_kl(student, teacher, temperature, standardise=True).item() == pytest.approx(
        kl_by_hand(*scores, temperature), rel=1e-2, abs=1e-4
    )


def test_standardised_logits_know_no_offset_and_no_size() -> None:
    logits = random_logits(0, 6, 10)
    scores = standardised(logits)
    torch.testing.assert_close(scores.mean(-1), torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(scores.std(-1, correction=0), torch.ones(6), rtol=1e-4, atol=0)
    torch.testing.assert_close(standardised(1e3 * logits - 5), scores, rtol=1e-3, atol=1e-3)
    assert softened_kl(logits, 4 * logits + 1, 2.0, standardise=True).item() == pytest.approx(0, abs=1e-6)
    assert softened_kl(logits, -logits, 2.0, standardise=True).item() > 0.1


def test_two_classes_have_nothing_to_teach_as_z_scores() -> None:
    with pytest.raises(UserError, match="z-scores of two classes are always 1 and -1"):
        softened_kl(torch.randn(4, 2), torch.randn(4, 2), 2.0, standardise=True)
    assert softened_kl(torch.randn(4, 2), torch.randn(4, 2), 2.0) >= 0


def test_equal_logits_have_a_finite_gradient_when_standardised() -> None:
    student = torch.zeros(3, 5, requires_grad=True)  # a classifier that begins at 0
    softened_kl(student, random_logits(0, 3, 5), 2.0, standardise=True).backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() > 0


def test_standardised_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert standardised(random_logits(0, 2, 5).bfloat16()).dtype == torch.float32


def test_unknown_reduction_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown reduction 'batch_mean': did you mean 'batchmean'"):
        softened_kl(torch.zeros(2, 3), torch.zeros(2, 3), 1.0, reduction="batch_mean")  # type: ignore[arg-type]


@settings(max_examples=20)
@given(seeds, st.sampled_from([(1, 2), (5, 7), (2, 3, 4)]))
def test_soft_cross_entropy_is_the_formula(seed: int, shape: tuple[int, ...]) -> None:
    logits, targets = random_logits(seed, *shape), random_logits(seed + 1, *shape).softmax(-1)
    rows = list(zip(logits.flatten(0, -2).tolist(), targets.flatten(0, -2).tolist(), strict=True))
    expected = 0.0
    for row, target in rows:
        expected -= sum(t * math.log(q) for t, q in zip(target, probabilities(row, 1.0), strict=True))
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(expected / len(rows), rel=1e-5, abs=1e-6)


def test_soft_cross_entropy_limits() -> None:
    logits, labels = random_logits(0, 6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    one_hot = F.one_hot(labels, 5).float()
    torch.testing.assert_close(soft_cross_entropy(logits, one_hot), F.cross_entropy(logits, labels))
    assert soft_cross_entropy(torch.zeros(6, 5), one_hot).item() == pytest.approx(math.log(5))
    # It exceeds the KL by the targets' entropy.
    teacher = random_logits(1, 6, 5)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(soft_cross_entropy(logits, p), softened_kl(logits, teacher, 1.0) + entropy)


def test_soft_cross_entropy_holds_its_targets_constant() -> None:
    logits, targets = random_logits(0, 4, 3).requires_grad_(), random_logits(1, 4, 3).softmax(-1).requires_grad_()
    soft_cross_entropy(logits, targets).backward()
    assert targets.grad is None
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - targets).detach() / 4)


@pytest.mark.parametrize("autocast", [True, False])
def test_soft_cross_entropy_in_half_precision_is_computed_in_float32(autocast: bool) -> None:
    logits, targets = random_logits(0, 4, 3).bfloat16(), random_logits(1, 4, 3).softmax(-1).bfloat16()
    expected = -(targets.double() * logits.double().log_softmax(-1)).sum(-1).mean()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = soft_cross_entropy(logits, targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
