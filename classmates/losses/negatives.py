"""The rows of the memory banks that an anchor is contrasted with: samples of other classes (MCL-OKD, §3).

Three ways to have K negatives for each anchor. Given the normaliser, their contrasts agree in expectation:

- :func:`independent_negatives`: every sample of the batch has its own K rows, as published; the slowest;
- :func:`shared_negatives`: one draw of K rows for the whole batch, each anchor leaving out those of its own class;
- :func:`all_negatives`: every row of another class, nothing drawn; K is then only the weight of the negatives.

:func:`enough_negatives` takes the last where the bank is small and otherwise the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.losses.blocks import Block, Scratch

# Of each bank, so many at a time: a CPU wants the similarities (6 MB for 4 peers and 64 images) near its caches, a
# GPU few and large operations. As many blocks in every step, so that nothing about them depends on values.
ROWS_PER_BLOCK = {"cpu": 2048, "cuda": 16384}
ENOUGH_ROWS = 8192  # see docs/scaling.md


class ClassOrder(nn.Module):
    """The training samples sorted by class, so that samples of other classes are drawn by arithmetic alone.

    Class c stands in one block of ``order``, from ``starts[c]``, ``counts[c]`` long: a rank drawn among the N −
    ``counts[c]`` samples of other classes steps over that block. All on the device, without a loop over samples.

    Args:
        labels: [N], int64, the class of every training sample, by sample index.

    Attributes:
        pool: how many rows of other classes the samples of the most common class have. A larger K repeats rows.

    Raises:
        UserError: all samples are of one class.
    """

    local_buffers = ("labels", "order", "starts", "counts")  # as every process makes them from the same data
    labels: Tensor
    order: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        counts = torch.bincount(labels)
        self.pool = len(labels) - int(counts.max())
        if self.pool == 0:
            raise UserError(
                f"all {len(labels)} training samples are of class {int(labels[0])}, so none has a negative; "
                "contrast needs samples of at least 2 classes"
            )
        # made from the data again at every start: no part of the state_dict
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("order", labels.argsort(stable=True), persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def others(self, labels: Tensor, written: Tensor | None) -> Tensor:
        """Return how many samples are of other classes than each of ``labels`` [B]: of all, or of ``written`` [N]."""
        if written is None:
            return len(self.labels) - self.counts[labels]
        by_class = torch.zeros_like(self.counts).index_add(0, self.labels, written.to(self.counts.dtype))
        return written.sum() - by_class[labels]

    def draw(self, labels: Tensor, num_negatives: int) -> Tensor:
        """Draw indices [B, K] of samples of classes not ``labels`` [B]: uniform, independent, with replacement."""
        count = self.counts[labels][:, None]
        shape = (len(labels), num_negatives)
        # torch.randint takes one bound for all; the remainder of 2⁶² favours no rank by more than N / 2⁶²
        rank = torch.randint(2**62, shape, device=labels.device) % (len(self.labels) - count)
        return self.order[rank + count * (rank >= self.starts[labels][:, None])]


@dataclass(frozen=True, eq=False, kw_only=True)
class Negatives(ABC):
    """The negatives of every sample of one batch, in the bank of every peer.

    rows: [M, ·, d], what the negatives are taken from. labels: [B], the classes of the batch.
    num_negatives: K of Eq. 7 and 8, the weight of an anchor's negatives, however many rows stand for them.
    counts: [B], V, how many rows stand for each sample's K; each of them weighs K/V.
    written: which of the bank's rows [N], or of the rows here, are embeddings and may be negatives; None if all are.
    """

    rows: Tensor
    labels: Tensor
    num_negatives: int
    counts: Tensor
    written: Tensor | None = None

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield all negatives, as many rows at a time as are worth holding in memory.

        They share their scratch: what one block has made is gone with the next.
        """

    @property
    def rows_per_block(self) -> int:
        return ROWS_PER_BLOCK.get(self.rows.device.type, ROWS_PER_BLOCK["cuda"])


@dataclass(frozen=True, eq=False, kw_only=True)
class IndependentNegatives(Negatives):
    """Each sample has its own rows, the same for all peers: ``rows[:, indices]``, indices [B, K]."""

    indices: Tensor

    def blocks(self) -> Iterator[Block]:
        mask, scratch = torch.zeros(1, 1, device=self.rows.device), Scratch(self.rows.device)
        for indices in self.indices.split(max(1, self.rows_per_block // len(self.indices)), dim=1):
            rows = self.rows.index_select(1, indices.flatten()).unflatten(1, indices.shape)
            left_out = mask if self.written is None else mask.masked_fill(~self.written[indices], -torch.inf)
            yield Block.of(rows, left_out, scratch)


@dataclass(frozen=True, eq=False, kw_only=True)
class CommonNegatives(Negatives):
    """All samples have the same rows, [M, R, d] of classes ``row_labels`` [R], but for those of their own class."""

    row_labels: Tensor

    def blocks(self) -> Iterator[Block]:
        mask, scratch = torch.zeros((), device=self.rows.device), Scratch(self.rows.device)
        for first in range(0, self.rows.shape[1], self.rows_per_block):
            part = slice(first, first + self.rows_per_block)
            left_out = self.row_labels[part] == self.labels[:, None]
            if self.written is not None:
                left_out |= ~self.written[part]
            yield Block.of(self.rows[:, None, part], mask.masked_fill(left_out, -torch.inf), scratch)


def independent_negatives(
    rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int, *, written: Tensor | None = None
) -> Negatives:
    """K rows for each sample of the batch, drawn with replacement from the samples of other classes, as published.

    The released code draws without replacement on CIFAR-100 and with it on ImageNet; the means are the same.

    Args:
        rows: [M, N, d], the memory banks.
        classes: the training samples by class.
        labels: [B], the classes of the batch.
        num_negatives: K.
        written: [N], which rows may be negatives; all if not given. Of K drawn rows those that may not are left out,
            and the others weigh K/V each.

    Raises:
        UserError: K is below 1.
        ValueError: the banks have another number of rows than there are labels.
    """
    _check(rows, classes, num_negatives)
    indices = classes.draw(labels, num_negatives)
    counts = torch.full_like(labels, num_negatives) if written is None else written[indices].sum(1)
    return IndependentNegatives(
        rows=rows, labels=labels, num_negatives=num_negatives, counts=counts, written=written, indices=indices
    )


def shared_negatives(
    rows: Tensor,
    classes: ClassOrder,
    labels: Tensor,
    num_negatives: int,
    *,
    drawn: int | None = None,
    written: Tensor | None = None,
) -> Negatives:
    """One draw of rows, with replacement, for the whole batch; arguments and errors as ``independent_negatives``.

    The V rows of other classes than an anchor's weigh K/V each, which keeps the expectation. An anchor left with no
    row (few draws, or few and unbalanced classes) has no negatives in that step. The noise of the draw is common to
    the batch and does not average out over it: 4,096 rows and more make it small beside that of the batch itself.

    Args:
        drawn: how many rows; K if not given.
    """
    _check(rows, classes, num_negatives)
    indices = torch.randint(rows.shape[1], (drawn or num_negatives,), device=rows.device)
    row_labels = classes.labels[indices]
    others = row_labels != labels[:, None]
    if written is not None:
        written = written[indices]
        others &= written
    return CommonNegatives(
        rows=rows.index_select(1, indices),
        labels=labels,
        num_negatives=num_negatives,
        counts=others.sum(1),
        written=written,
        row_labels=row_labels,
    )


def all_negatives(
    rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int, *, written: Tensor | None = None
) -> Negatives:
    """Every row of another class, weighing K/V each if there are V; arguments and errors as above.

    This is what the two drawn forms are on average, without their noise, at a cost that grows with N and not with K.
    """
    _check(rows, classes, num_negatives)
    return CommonNegatives(
        rows=rows,
        labels=labels,
        num_negatives=num_negatives,
        counts=classes.others(labels, written),
        written=written,
        row_labels=classes.labels,
    )


def every_row(rows: Tensor, batch: int) -> Negatives:
    """Return all rows [M, N, d] for every sample of a batch, those of its own class too: what Eq. 6 sums over."""
    labels = torch.zeros(batch, dtype=torch.int64, device=rows.device)
    none_of_them = torch.full((rows.shape[1],), -1, device=rows.device)
    counts = torch.full_like(labels, rows.shape[1])
    return CommonNegatives(
        rows=rows, labels=labels, num_negatives=rows.shape[1], counts=counts, row_labels=none_of_them
    )


def enough_negatives(
    rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int, *, written: Tensor | None = None
) -> Negatives:
    """Every row of banks of up to 8,192 rows (or K, if that is more), of larger ones a shared draw of that many.

    So the cost stops growing with N where the noise of the draw is small beside that of the batch. Arguments and
    errors as ``independent_negatives``.
    """
    enough = max(num_negatives, ENOUGH_ROWS)
    if rows.shape[1] <= enough:
        return all_negatives(rows, classes, labels, num_negatives, written=written)
    return shared_negatives(rows, classes, labels, num_negatives, drawn=enough, written=written)


def _check(rows: Tensor, classes: ClassOrder, num_negatives: int) -> None:
    if num_negatives < 1:
        raise UserError(f"the number of negatives K is {num_negatives}; an anchor needs at least 1")
    if rows.ndim != 3 or rows.shape[1] != len(classes.labels):
        raise ValueError(
            f"memory banks of shape {tuple(rows.shape)} do not fit {len(classes.labels)} labels: "
            f"they must be [peers, {len(classes.labels)}, dimension], one row per training sample"
        )
