import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from classmates.losses.similarity import correlation_congruence, gaussian_kernel, similarity_preserving

seeds = st.integers(0, 2**31 - 1)
LOSSES = [similarity_preserving, correlation_congruence]


def random_features(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def similarities_by_hand(features: Tensor) -> list[list[float]]:
    rows = features.flatten(1).tolist()
    gram = [[dot(a, b) for b in rows] for a in rows]
    return [[value / math.sqrt(dot(row, row)) for value in row] for row in gram]


def kernel_by_hand(embeddings: Tensor, gamma: float, order: int) -> list[list[float]]:
    rows = embeddings.tolist()
    units = [[value / math.sqrt(dot(row, row)) for value in row] for row in rows]

    def kernel(cosine: float) -> float:
        series = sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(order + 1))
        return math.exp(-2 * gamma) * series

    return [[kernel(dot(a, b)) for b in units] for a in units]


def mean_square(first: list[list[float]], second: list[list[float]]) -> float:
    pairs = [(a - b) ** 2 for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)]
    return sum(pairs) / len(pairs)


@settings(max_examples=25)
@given(seeds, st.integers(2, 6), st.integers(1, 5), st.integers(1, 5))
def test_similarity_is_the_formula(seed: int, batch: int, width: int, other: int) -> None:
    student, teacher = (
        random_features(seed, batch, width, 2, 3),
        random_features(seed + 1, batch, other),
    )
    loss = similarity_preserving(student, teacher)
    assert loss.shape == ()
    expected = mean_square(similarities_by_hand(student), similarities_by_hand(teacher))
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@settings(max_examples=25)
@given(seeds, st.integers(2, 6), st.floats(0.05, 2), st.integers(1, 5))
def test_correlation_is_the_formula(seed: int, batch: int, gamma: float, order: int) -> None:
    student, teacher = random_features(seed, batch, 3), random_features(seed + 1, batch, 5)
    loss = correlation_congruence(student, teacher, gamma=gamma, order=order)
    assert loss.shape == ()
    expected = mean_square(kernel_by_hand(student, gamma, order), kernel_by_hand(teacher, gamma, order))
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=20)
@given(seed=seeds, factor=st.floats(0.01, 100))
def test_what_they_are_blind_to(loss, seed: int, factor: float) -> None:
    student, teacher = random_features(seed, 5, 4), random_features(seed + 1, 5, 6)
    value = loss(student, teacher)
    assert loss(student, student).item() == 0
    assert value.item() > 0
    turn = torch.linalg.qr(random_features(seed + 2, 4, 4)).Q  # the embedding space turned
    torch.testing.assert_close(loss(factor * student @ turn, teacher), value, rtol=1e-3, atol=1e-6)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(loss(student[order], teacher[order]), value, rtol=1e-3, atol=1e-6)


def test_correlation_is_blind_to_each_embeddings_length_and_similarity_is_not() -> None:
    student, teacher = random_features(0, 5, 4), random_features(1, 5, 4)
    stretched = student * torch.tensor([1, 2, 3, 4, 5.0])[:, None]
    torch.testing.assert_close(correlation_congruence(stretched, teacher), correlation_congruence(student, teacher))
    assert not similarity_preserving(stretched, teacher).isclose(similarity_preserving(student, teacher))


def test_kernel_known_values() -> None:
    kernel = gaussian_kernel(torch.tensor([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]]), 0.4, 2)
    assert kernel[0, 0].item() == pytest.approx(0.9526, abs=1e-4)  # exp(−0.8)(1 + 0.8 + 0.32)
    assert kernel[0, 1].item() == pytest.approx(math.exp(-0.8))
    assert kernel[0, 2].item() == pytest.approx(math.exp(-0.8) * (1 - 0.8 + 0.32))


def test_kernel_of_many_terms_is_gaussian() -> None:
    embeddings = random_features(0, 6, 3)
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    distances = (unit[:, None] - unit).square().sum(-1)
    torch.testing.assert_close(gaussian_kernel(embeddings, 0.4, 12), (-0.4 * distances).exp())


def test_similarity_known_value() -> None:
    """Rows (1, 0) and (0, 1) for unlike images against (1, 1)/√2 for like ones."""
    unlike, like = torch.eye(2), torch.ones(2, 1)
    expected = ((1 - math.sqrt(0.5)) ** 2 + 0.5) / 2
    assert similarity_preserving(unlike, like).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss) -> None:
    student, teacher = random_features(0, 4, 3).requires_grad_(), random_features(1, 4, 5).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    step = 1e-3 * random_features(2, 4, 3)
    by_hand = similarities_by_hand if loss is similarity_preserving else lambda e: kernel_by_hand(e, 0.4, 2)
    up, down = (
        mean_square(by_hand(student.detach().double() + sign * step), by_hand(teacher.detach())) for sign in (1, -1)
    )
    assert (student.grad * step).sum().item() == pytest.approx((up - down) / 2, rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_dead_features_have_finite_gradients(loss) -> None:
    student = random_features(0, 4, 3).relu()
    student[2] = 0
    student.requires_grad_()
    loss(student, random_features(1, 4, 3)).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_reach_the_products(loss) -> None:
    student, teacher = random_features(0, 6, 8).bfloat16(), random_features(1, 6, 8).bfloat16()
    expected = loss(student.float(), teacher.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == expected.item()
