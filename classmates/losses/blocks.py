"""Rows of the memory banks that are compared with the anchors at once, and the memory that this takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from classmates._machine import has_bfloat16


class Scratch:
    """Memory for the largest tensors of a block, which the next block takes again.

    Fresh pages would cost a CPU as much time as the arithmetic on them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor of any content, in the place of the one that had this name before."""
        size = math.prod(shape)
        kept = self.kept.get((name, dtype))
        if kept is None or len(kept) < size:
            kept = self.kept[name, dtype] = torch.empty(size, dtype=dtype, device=self.device)
        return kept[:size].view(*shape)


class Block(NamedTuple):
    """Rows that are compared with the anchors in one batched product.

    rows: [M, G, R, d]. The B samples of the batch fall into G groups of equal size, each with R rows of every bank:
    one group where all samples meet the same rows, B groups where each has its own.
    mask: [B, R] or [1, 1], what is added to a similarity: −∞ where the row is no negative of the sample, else 0.
    scratch: for what is as large as the similarities.

    Products are made in the rows' dtype: with a bfloat16 bank each is accumulated in float32 and rounded to 8 bits.
    Where the device does not multiply in bfloat16, such a bank saves memory alone (``of``).
    """

    rows: Tensor
    mask: Tensor
    scratch: Scratch

    @classmethod
    def of(cls, rows: Tensor, mask: Tensor, scratch: Scratch) -> Block:
        """Return a block whose rows are as products take them fastest: in float32 without bfloat16 arithmetic."""
        if rows.dtype == torch.bfloat16:  # in one piece, for a product would copy a part of the bank each time
            rows = rows.contiguous() if has_bfloat16(rows.device) else rows.float()
        return cls(rows, mask, scratch)

    def logits(self, queries: Tensor, offset: Tensor | None = None) -> Tensor:
        """Return products of queries [M, B, P, d] with the rows, less the offset [M, B or 1, P], plus the mask.

        Returns [M, B, P, R] in the queries' dtype, in scratch memory. Where the product is made in that dtype, offset
        and mask are written first and it is added to them: one pass over the largest tensor instead of three.
        """
        logits = self.scratch.take("logits", (*queries.shape[:-1], self.rows.shape[2]), queries.dtype)
        mask, right = self.mask[:, None], self.rows.flatten(0, 1).mT
        products = logits.view(*self._groups(queries), -1)
        left = queries.to(right.dtype).reshape(*products.shape[:2], -1)
        if right.dtype == logits.dtype:
            if offset is None:
                logits.copy_(mask)
            else:
                torch.sub(mask, offset[..., None].expand_as(logits), out=logits)
            torch.baddbmm(products, left, right, out=products)
            return logits
        products.copy_(torch.bmm(left, right, out=self.scratch.take("products", products.shape, right.dtype)))
        return (logits if offset is None else logits.sub_(offset[..., None])).add_(mask)

    def add_weighted_sum(self, total: Tensor, weights: Tensor) -> None:
        """Add to total [M, B, P, d], in place, the sum of the rows by weights [M, B, P, R]."""
        sums, rows = total.view(*self._groups(total), -1), self.rows.flatten(0, 1)
        weights = weights.reshape(*sums.shape[:2], -1)
        if rows.dtype == total.dtype:
            torch.baddbmm(sums, weights, rows, out=sums)
        else:
            left = self.scratch.take("products", weights.shape, rows.dtype).copy_(weights)
            sums.add_(left.bmm(rows))

    def _groups(self, queries: Tensor) -> tuple[int, int]:
        """Return the number of products, and of anchors in each."""
        peers, groups = self.rows.shape[:2]
        return peers * groups, queries.shape[1] // groups * queries.shape[2]
