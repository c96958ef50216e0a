import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from classmates.losses.attention import attention_map, attention_transfer

seeds = st.integers(0, 2**31 - 1)


def random_maps(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(student: Tensor, teacher: Tensor) -> float:
    """One stage of equal sizes, one image and one place at a time, in Python's float64."""
    total = 0.0
    for image in zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        sides = []
        for channels in image:
            energy = [sum(value**2 for value in place) for place in zip(*channels, strict=True)]
            length = sum(e**2 for e in energy) ** 0.5
            sides.append([e / length for e in energy])
        total += sum((s - t) ** 2 for s, t in zip(*sides, strict=True)) / len(sides[0])
    return total / len(student)


@settings(max_examples=25)
@given(seeds, st.integers(1, 4), st.integers(1, 5), st.integers(2, 4), st.integers(1, 4))
def test_attention_is_the_formula(seed: int, batch: int, channels: int, height: int, width: int) -> None:
    student = [random_maps(seed, batch, channels, height, width), random_maps(seed + 1, batch, 3, 2, 2)]
    teacher = [random_maps(seed + 2, batch, 2, height, width), random_maps(seed + 3, batch, 7, 2, 2)]
    loss = attention_transfer(student, teacher)
    expected = sum(by_hand(*pair) for pair in zip(student, teacher, strict=True))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)


@settings(max_examples=20)
@given(seeds, st.floats(0.01, 100))
def test_attention_sees_places_and_not_size_or_channels(seed: int, factor: float) -> None:
    student, teacher = random_maps(seed, 3, 4, 5, 5), random_maps(seed + 1, 3, 6, 5, 5)
    loss = attention_transfer([student], [teacher])
    assert attention_transfer([student], [student]).item() == 0
    assert loss.item() > 0
    mixed = factor * student[:, [3, 1, 0, 2]] * torch.tensor([1, -1, 1, -1]).view(-1, 1, 1)
    torch.testing.assert_close(attention_transfer([mixed], [teacher]), loss, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(attention_transfer([student.mT], [teacher.mT]), loss)


def test_a_map_of_attention_has_length_one() -> None:
    torch.testing.assert_close(attention_map(random_maps(0, 3, 4, 5, 6)).norm(dim=1), torch.ones(3))
    assert attention_map(torch.ones(1, 2, 2, 2)).tolist() == [[0.5] * 4]


def test_known_value() -> None:
    """All attention on one of two places against all on the other: (1 + 1)/2."""
    left, right = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, -0.1]]]])
    assert attention_transfer([left], [right]).item() == pytest.approx(1.0)


@pytest.mark.parametrize(("student_size", "teacher_size"), [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((8, 3), (4, 6))])
def test_sizes_meet_at_the_smaller(student_size: tuple[int, int], teacher_size: tuple[int, int]) -> None:
    student, teacher = random_maps(0, 2, 3, *student_size), random_maps(1, 2, 5, *teacher_size)
    size = min(student_size[0], teacher_size[0]), min(student_size[1], teacher_size[1])
    pooled = [torch.nn.functional.adaptive_avg_pool2d(maps, size) for maps in (student, teacher)]
    assert attention_transfer([student], [teacher]).item() == pytest.approx(by_hand(*pooled), rel=1e-5)


def test_gradient_reaches_the_student_only_and_survives_dead_maps() -> None:
    student = random_maps(0, 2, 3, 4, 4).relu().requires_grad_()
    with torch.no_grad():
        student[1] = 0
    teacher = random_maps(1, 2, 3, 4, 4).requires_grad_()
    attention_transfer([student], [teacher]).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad[0].abs().sum() > 0
    # Scaling an image's map changes nothing, so the gradient is orthogonal to it.
    assert (student.grad * student).sum().item() == pytest.approx(0, abs=1e-6)


def test_numerical_gradient() -> None:
    student, teacher = random_maps(0, 2, 3, 3, 3), random_maps(1, 2, 2, 3, 3)
    student.requires_grad_()
    attention_transfer([student], [teacher]).backward()
    step = 1e-2 * random_maps(2, 2, 3, 3, 3)
    up, down = (by_hand(student.detach().double() + sign * step, teacher) for sign in (1, -1))
    assert (student.grad * step).sum().item() == pytest.approx((up - down) / 2, rel=1e-2)


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = 300 * random_maps(0, 2, 3, 4, 4).half(), random_maps(1, 2, 3, 4, 4).half()  # squares overflow
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = attention_transfer([student], [teacher])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(student, teacher), rel=1e-4)
