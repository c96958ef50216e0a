"""The negatives of one shard of the memory banks: each of G processes compares all anchors with the rows it owns.

What a shard gives is a sum over its rows, divided by counts of all shards' negatives: the results of all shards add
up to those of the whole bank (``losses/sharded_contrast.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from classmates.losses.negatives import ENOUGH_ROWS, CommonNegatives

# So many processes' anchors are compared with a block of rows at once, and of rows the fewer: so the memory is that
# of one batch and the whole bank, and a shard is read G/8 times in a pass instead of G times.
BATCHES_AT_ONCE = 8


class Shard(NamedTuple):
    """The rows that one process owns of every peer's bank.

    rows: [M, n, d]. labels: [n], the classes of their samples. written: [n], which of them may be negatives; None if
    all may. samples: N, of all shards. shards: G. num_classes: C.
    """

    rows: Tensor
    labels: Tensor
    written: Tensor | None
    samples: int
    shards: int
    num_classes: int

    @property
    def largest(self) -> int:
        """The rows of the largest shard, ⌈N/G⌉; the others have one less or as many."""
        return -(-self.samples // self.shards)


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardNegatives(CommonNegatives):
    """Rows of one shard for the anchors of all processes; ``counts`` [G·B] are of this shard until they are added up.

    batches: of how many processes the anchors are.
    """

    batches: int

    @property
    def rows_per_block(self) -> int:
        return max(1, super().rows_per_block // self.batches)

    def parts(self) -> Iterator[tuple[slice, ShardNegatives]]:
        """Yield the negatives of a few processes' anchors at a time, and which anchors these are."""
        batch = len(self.labels) // self.batches
        for first in range(0, self.batches, BATCHES_AT_ONCE):
            last = min(first + BATCHES_AT_ONCE, self.batches)
            part = slice(first * batch, last * batch)
            yield part, replace(self, labels=self.labels[part], counts=self.counts[part], batches=last - first)


def all_of_shard(shard: Shard, labels: Tensor, num_negatives: int) -> ShardNegatives:
    """Every row of another class that the shard has, for anchors of classes ``labels`` [G·B] of all processes."""
    written = shard.labels.new_ones(len(shard.labels)) if shard.written is None else shard.written.to(torch.int64)
    by_class = written.new_zeros(shard.num_classes).index_add(0, shard.labels, written)
    return _negatives(
        shard, shard.rows, shard.labels, shard.written, written.sum() - by_class[labels], labels, num_negatives
    )


def drawn_from_shard(shard: Shard, labels: Tensor, num_negatives: int, *, drawn: int | None = None) -> ShardNegatives:
    """One draw of ⌈R/G⌉ of the shard's rows, with replacement, for the anchors of all processes.

    All shards draw as many, so every row is as likely as with one draw of R from the whole bank; it is stratified by
    shards, which makes its noise no larger. Where a shard has a row less than the largest one a draw may hit none.

    Args:
        shard: whose rows they are.
        labels: [G·B], the classes of all processes' batches.
        num_negatives: K.
        drawn: R, how many all shards draw together; K if not given.
    """
    count = -(-(drawn or num_negatives) // shard.shards)
    indices = torch.randint(shard.largest, (count,), device=shard.rows.device)
    own = len(shard.labels)
    may = None if own == shard.largest else indices < own
    indices = indices.clamp(max=own - 1)
    if shard.written is not None:
        may = shard.written[indices] if may is None else may & shard.written[indices]
    row_labels = shard.labels[indices]
    others = row_labels != labels[:, None]
    counts = (others if may is None else others & may).sum(1)
    return _negatives(shard, shard.rows.index_select(1, indices), row_labels, may, counts, labels, num_negatives)


def enough_of_shard(shard: Shard, labels: Tensor, num_negatives: int) -> ShardNegatives:
    """All rows where the whole bank has up to 8,192 (or K, if that is more), else one draw of that many."""
    enough = max(num_negatives, ENOUGH_ROWS)
    if shard.samples <= enough:
        return all_of_shard(shard, labels, num_negatives)
    return drawn_from_shard(shard, labels, num_negatives, drawn=enough)


def _negatives(
    shard: Shard,
    rows: Tensor,
    row_labels: Tensor,
    written: Tensor | None,
    counts: Tensor,
    labels: Tensor,
    num_negatives: int,
) -> ShardNegatives:
    return ShardNegatives(
        rows=rows,
        labels=labels,
        num_negatives=num_negatives,
        counts=counts,
        written=written,
        row_labels=row_labels,
        batches=shard.shards,
    )
