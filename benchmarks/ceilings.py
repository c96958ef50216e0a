"""What this machine can do at most, measured: what a floor in time is computed from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.harness import Function, device, milliseconds
from classmates._machine import has_bfloat16

TRIES = 9


class Ceilings(NamedTuple):
    """Rates per second.

    flops: of a large matrix product, by the dtypes that the device multiplies in. bytes: read. elements: a power
    of two and a logarithm of each.
    """

    flops: dict[torch.dtype, float]
    bytes: float
    elements: float

    def floor_ms(self, flops: float, dtype: torch.dtype, moved: float, exponentials: float) -> float:
        """The least time for a work if its three parts do not overlap."""
        return 1000 * (flops / self.flops[dtype] + moved / self.bytes + exponentials / self.elements)


def ceilings() -> Ceilings:
    """Measures them: the best of a few tries each."""
    where = device()
    side = 8192 if where.type == "cuda" else 2048
    dtypes = [torch.float32, *([torch.bfloat16] if has_bfloat16(where) else [])]
    large = torch.randn(2**28 if where.type == "cuda" else 2**26, device=where)
    small = torch.rand(2**24 if where.type == "cuda" else 2**17, device=where)
    result = torch.empty_like(small)

    def product(dtype: torch.dtype) -> Function:
        square: Tensor = torch.randn(side, side, device=where).to(dtype)
        return lambda: square @ square

    def exponentials() -> None:
        for _ in range(8):  # in the cache of a CPU, and long enough for its clock
            torch.exp2(small, out=result)
            torch.log1p(result, out=result)

    return Ceilings(
        flops={dtype: 2 * side**3 / seconds(product(dtype)) for dtype in dtypes},
        bytes=large.nbytes / seconds(large.sum),
        elements=8 * len(small) / seconds(exponentials),
    )


def seconds(function: Function) -> float:
    function()
    return min(milliseconds(function) for _ in range(TRIES)) / 1000
