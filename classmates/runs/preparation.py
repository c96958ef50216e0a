"""The preparation of a student's images in words and numbers, for whoever feeds it in another program."""

from __future__ import annotations

from collections.abc import Sequence

from classmates.data.parts import Interpolation
from classmates.data.resizing import LONGEST


def steps_of(
    input_shape: tuple[int, int, int],
    resize: int | tuple[int, int],
    interpolation: Interpolation,
    mean: Sequence[float],
    std: Sequence[float],
) -> list[str]:
    """Return what is done to an image, in order; the arguments are as in ``StudentCard``."""
    channels, height, width = input_shape
    colours = {1: "8-bit grey (0.299 R + 0.587 G + 0.114 B)", 3: "RGB, in this order, 8 bits each"}
    kind = colours.get(channels, f"{channels} channels")
    ratio = f"{LONGEST * max(height, width) / min(height, width):g}"
    return [
        "turn it upright by its EXIF orientation, divide values of 16-bit grey by 257 and round them, "
        f"put transparency on white, and make it {kind}",
        f"of an image more than {ratio} times as long as it is wide keep the middle of that length",
        _resizing(height, width, resize, interpolation),
        f"keep the middle {height} rows and {width} columns; of an odd rest the half before them is "
        "rounded to the even number",
        "divide by 255, so that values lie in 0..1",
        f"subtract the mean {_row(mean)} and divide by the deviation {_row(std)}, channel by channel",
        f"give it as float32 [batch, {channels}, {height}, {width}]: channels, rows, columns",
    ]


def _resizing(height: int, width: int, resize: int | tuple[int, int], interpolation: Interpolation) -> str:
    how = f"{interpolation} interpolation, antialiased (the filter grows with the reduction, as in Pillow)"
    if isinstance(resize, int):
        return (
            f"resize it: its shorter side to {resize} pixels, its longer side to as many as keep its shape, rounded "
            f"down; {how}"
        )
    return (
        f"unless it has {height} rows and {width} columns, scale it, its shape kept, by the smallest factor at which "
        "it has at least as many of both, rounded to whole pixels (it is not squeezed into that size); "
        + how.replace(interpolation, "bilinear", 1)
    )


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
