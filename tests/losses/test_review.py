import pytest
import torch
from torch import Tensor

from classmates.losses.review import hierarchical_context


def by_loops(student: Tensor, teacher: Tensor) -> float:
    """The definition in float64: blocks of pixels are averaged one by one."""
    student, teacher = student.double(), teacher.double()
    height, width = student.shape[-2:]
    total = weights = 0.0
    for number, side in enumerate([None, *(side for side in (4, 2, 1) if side < min(height, width))]):
        rows, columns = (side, side) if side else (height, width)
        squares = []
        for i in range(rows):
            for j in range(columns):
                rows_of = slice(i * height // rows, -(-(i + 1) * height // rows))
                columns_of = slice(j * width // columns, -(-(j + 1) * width // columns))
                cell = student[:, :, rows_of, columns_of] - teacher[:, :, rows_of, columns_of]
                squares.append(cell.mean((2, 3)).square().mean())
        weight = 0.5**number
        total += weight * float(sum(squares)) / len(squares)
        weights += weight
    return total / weights


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (3, 5), (1, 1), (2, 2), (7, 7)])
def test_it_is_the_definition(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 3, 5, *size, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert hierarchical_context(student, teacher).item() == pytest.approx(by_loops(student, teacher), rel=1e-5)


def test_known_values_and_the_teacher_is_held_constant() -> None:
    student, teacher = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.full((2, 3, 8, 8), 2.0, requires_grad=True)
    loss = hierarchical_context(student, teacher)
    assert loss.item() == pytest.approx(4)  # a constant difference is the same at every resolution
    loss.backward()
    assert teacher.grad is None
    assert (student.grad < 0).all()
    checkered = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).expand(1, 1, 8, 8)
    fine = hierarchical_context(checkered, torch.zeros(1, 1, 8, 8))
    assert fine.item() == pytest.approx(1 / 1.875)  # it is seen at the full resolution alone


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4).bfloat16().unbind(0)
    assert hierarchical_context(student, teacher).dtype == torch.float32
