import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from classmates.losses.rkd import VERTICES, relational_angle, relational_distance, scaled_distances

seeds = st.integers(0, 2**31 - 1)
LOSSES = [relational_distance, relational_angle]


def random_embeddings(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def huber(x: float, y: float) -> float:
    return 0.5 * (x - y) ** 2 if abs(x - y) < 1 else abs(x - y) - 0.5


def distances_by_hand(embeddings: Tensor) -> list[float]:
    rows = embeddings.tolist()
    distances = [math.dist(a, b) for a in rows for b in rows]
    positive = [distance for distance in distances if distance > 0]
    return [distance / (sum(positive) / len(positive)) for distance in distances]


def cosines_by_hand(embeddings: Tensor) -> list[float]:
    rows = embeddings.tolist()

    def direction(vertex: list[float], point: list[float]) -> list[float]:
        length = math.dist(vertex, point) or 1.0
        return [(p - v) / length for v, p in zip(vertex, point, strict=True)]

    return [
        sum(x * y for x, y in zip(direction(vertex, a), direction(vertex, b), strict=True))
        for vertex in rows
        for a in rows
        for b in rows
    ]


def by_hand(loss, student: Tensor, teacher: Tensor) -> float:
    relations = distances_by_hand if loss is relational_distance else cosines_by_hand
    pairs = list(zip(relations(student), relations(teacher), strict=True))
    return sum(huber(*pair) for pair in pairs) / len(pairs)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=20)
@given(seed=seeds, batch=st.sampled_from([2, 3, VERTICES + 3]), widths=st.tuples(*[st.integers(1, 4)] * 2))
def test_it_is_the_formula(loss, seed: int, batch: int, widths: tuple[int, int]) -> None:
    student, teacher = (random_embeddings(seed + side, batch, width) for side, width in enumerate(widths))
    value = loss(student, teacher)
    assert value.shape == ()
    assert value.item() == pytest.approx(by_hand(loss, student, teacher), rel=1e-3, abs=1e-6)


def test_angles_at_some_vertices_and_at_the_others_make_all() -> None:
    student, teacher = random_embeddings(0, 6, 3), random_embeddings(1, 6, 4)
    parts = [relational_angle(student, teacher, vertices) for vertices in torch.arange(6).chunk(2)]
    torch.testing.assert_close(sum(parts) / 2, relational_angle(student, teacher))


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=20)
@given(seed=seeds, factor=st.floats(0.05, 20))
def test_moving_turning_mirroring_and_scaling_change_nothing(loss, seed: int, factor: float) -> None:
    student, teacher = random_embeddings(seed, 6, 4), random_embeddings(seed + 1, 6, 3)
    value = loss(student, teacher)
    turn = torch.linalg.qr(random_embeddings(seed + 2, 4, 4)).Q  # with or without a mirror
    moved = factor * student @ turn + factor * random_embeddings(seed + 3, 4)
    torch.testing.assert_close(loss(moved, teacher), value, rtol=1e-3, atol=1e-5)
    assert loss(moved, student).item() == pytest.approx(0, abs=1e-6)
    assert value.item() > 0


def test_known_values() -> None:
    """A right-angled triangle with equal legs against three points in a row."""
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    row = torch.tensor([[0.0], [1.0], [-1.0]])
    legs, hypotenuse = (side * 3 / (2 + math.sqrt(2)) for side in (1, math.sqrt(2)))
    expected = 2 * (2 * huber(legs, 0.75) + huber(hypotenuse, 1.5)) / 9
    assert relational_distance(corner, row).item() == pytest.approx(expected)
    # At the right angle 0 against −1, at each of the two others √½ against 1; every angle twice.
    expected = 2 * (huber(0, -1) + 2 * huber(math.sqrt(0.5), 1)) / 27
    assert relational_angle(corner, row).item() == pytest.approx(expected)


def test_distances_are_in_units_of_their_mean() -> None:
    distances = scaled_distances(random_embeddings(0, 5, 3))
    assert distances.sum().item() / 20 == pytest.approx(1)
    assert distances.diagonal().tolist() == [0] * 5


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss) -> None:
    student = random_embeddings(0, VERTICES + 2, 3).requires_grad_()
    teacher = random_embeddings(1, VERTICES + 2, 5).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    step = 1e-3 * random_embeddings(2, VERTICES + 2, 3)
    up, down = (by_hand(loss, student.detach().double() + sign * step, teacher.detach()) for sign in (1, -1))
    assert (student.grad * step).sum().item() == pytest.approx((up - down) / 2, rel=2e-3)
    # It cannot move or scale the whole: the gradient has no part in those directions.
    torch.testing.assert_close(student.grad.sum(0), torch.zeros(3), rtol=0, atol=1e-6)
    assert (student.grad * student).sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("coinciding", [2, 6])
def test_coinciding_samples_have_finite_and_moderate_gradients(loss, coinciding: int) -> None:
    student = random_embeddings(0, 6, 3)
    student[:coinciding] = 0.0
    student.requires_grad_()
    value = loss(student, random_embeddings(1, 6, 3))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_does_not_reach_them(loss) -> None:
    student, teacher = random_embeddings(0, 6, 8).bfloat16(), random_embeddings(1, 6, 8).bfloat16()
    expected = loss(student.float(), teacher.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_angles_never_exist_all_together() -> None:
    """Nothing as large as B³, not even B²·d, is kept for the backward pass."""
    batch, width = 64, 32
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    student, teacher = random_embeddings(0, batch, width).requires_grad_(), random_embeddings(1, batch, width)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        relational_angle(student, teacher)
    assert sum(sizes) < batch**2 * width
