"""From a student's map to the shape of a teacher's, where a loss needs them equal (FitNet's regressor)."""

from __future__ import annotations

from torch import nn

from classmates.errors import UserError

Shape = tuple[int, int, int]


def adapter(student: Shape, teacher: Shape) -> nn.Sequential:
    """Make a convolution, BatchNorm and ReLU: [B, *student] → [B, *teacher].

    The convolution is chosen by the observed sizes, as RepDistiller does: 1x1 where they are equal, 3x3 of stride 2
    where the student's is twice as large (rounded up), a transposed 4x4 of stride 2 where it is half as large, and
    else one without padding, as large as it takes.

    Args:
        student, teacher: (C, H, W) of one map.

    Raises:
        UserError: the student's map is smaller than the teacher's, but not half its size.
    """
    (inputs, *own), (outputs, *wanted) = student, teacher
    convolution: nn.Module
    if own == wanted:
        convolution = nn.Conv2d(inputs, outputs, 1)
    elif [(side + 1) // 2 for side in own] == wanted:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    elif [side * 2 for side in own] == wanted:
        convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    elif all(side >= target for side, target in zip(own, wanted, strict=True)):
        kernel = own[0] - wanted[0] + 1, own[1] - wanted[1] + 1
        convolution = nn.Conv2d(inputs, outputs, kernel)
    else:
        raise UserError(
            f"no adapter from the student's map {student} to the teacher's {teacher} (channels, height, width): the "
            "student's must be as large or larger, or half as large; choose other stages or another teacher"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
