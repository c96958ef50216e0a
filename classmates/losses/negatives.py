"""Which rows of the memory banks an anchor is contrasted with: samples of other classes than its own (MCL-OKD, §3).

Three ways to have K negatives for each anchor. Given the normaliser, their contrasts agree in expectation:

- :func:`independent_negatives`: every sample of the batch has its own K rows, as published; the slowest;
- :func:`shared_negatives`: one draw of K rows for the whole batch, each anchor leaving out those of its own class;
- :func:`all_negatives`: every row of another class, nothing drawn; K is then only the weight of the negatives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from classmates.errors import UserError

ROWS_PER_BLOCK = 4096  # of each bank: similarities to 4 peers' anchors take 12 MB for a batch of 64


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

    def draw(self, labels: Tensor, num_negatives: int) -> Tensor:
        """Indices [B, K] of samples of other classes than ``labels`` [B]: uniform, independent, with replacement."""
        count = self.counts[labels][:, None]
        shape = (len(labels), num_negatives)
        # torch.randint takes one bound for all; the remainder of 2⁶² favours no rank by more than N / 2⁶²
        rank = torch.randint(2**62, shape, device=labels.device) % (len(self.labels) - count)
        return self.order[rank + count * (rank >= self.starts[labels][:, None])]


class Block(NamedTuple):
    """Rows that are compared with the anchors in one batched product.

    rows: [M, G, R, d]. The B samples of the batch fall into G groups of equal size, each with R rows of every bank:
    one group where all samples meet the same rows, B groups where each has its own.
    valid: [B, R] or [1, R], whether a row is a negative of the sample.
    """

    rows: Tensor
    valid: Tensor

    def logits(self, queries: Tensor) -> Tensor:
        """Products of queries [M, B, P, d] with the rows: [M, B, P, R] in the queries' dtype, −∞ where not valid.

        They are made in the rows' dtype, so that with a bfloat16 bank each product is rounded to 8 bits: fast on
        processors that multiply bfloat16; on others such a bank saves memory but is slower than a float32 one.
        """
        peers, groups, count, _ = self.rows.shape
        product = queries.to(self.rows.dtype).reshape(peers, groups, -1, queries.shape[-1]) @ self.rows.mT
        product = product.view(*queries.shape[:-1], count).to(queries.dtype)
        return product.masked_fill_(~self.valid[:, None], -torch.inf)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Sum of the rows by weights [M, B, P, R], made in the rows' dtype: [M, B, P, d] in the weights' dtype."""
        peers, groups, count, dimension = self.rows.shape
        total = weights.to(self.rows.dtype).reshape(peers, groups, -1, count) @ self.rows
        return total.view(*weights.shape[:-1], dimension).to(weights.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Negatives(ABC):
    """The negatives of every sample of one batch, in the bank of every peer.

    rows: [M, ·, d], what the negatives are taken from. labels: [B], the classes of the batch.
    num_negatives: K of Eq. 7 and 8, the weight of an anchor's negatives, however many rows stand for them.
    """

    rows: Tensor
    labels: Tensor
    num_negatives: int

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """All negatives, as many rows at a time as are worth holding in memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class IndependentNegatives(Negatives):
    """Each sample has its own rows, the same for all peers: ``rows[:, indices]``, indices [B, K]."""

    indices: Tensor

    def blocks(self) -> Iterator[Block]:
        for indices in self.indices.split(max(1, ROWS_PER_BLOCK // len(self.indices)), dim=1):
            rows = self.rows.index_select(1, indices.flatten()).unflatten(1, indices.shape)
            yield Block(rows, indices.new_ones(1, indices.shape[1], dtype=torch.bool))


@dataclass(frozen=True, eq=False, kw_only=True)
class CommonNegatives(Negatives):
    """All samples have the same rows, [M, R, d] of classes ``row_labels`` [R], but for those of their own class."""

    row_labels: Tensor

    def blocks(self) -> Iterator[Block]:
        parts = self.rows.split(ROWS_PER_BLOCK, dim=1), self.row_labels.split(ROWS_PER_BLOCK)
        for rows, row_labels in zip(*parts, strict=True):
            yield Block(rows[:, None], row_labels != self.labels[:, None])


def independent_negatives(rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int) -> Negatives:
    """K rows for each sample of the batch, drawn with replacement from the samples of other classes, as published.

    The released code draws without replacement on CIFAR-100 and with it on ImageNet; the means are the same.

    Args:
        rows: [M, N, d], the memory banks.
        classes: the training samples by class.
        labels: [B], the classes of the batch.
        num_negatives: K.

    Raises:
        UserError: K is below 1.
        ValueError: the banks have another number of rows than there are labels.
    """
    _check(rows, classes, num_negatives)
    indices = classes.draw(labels, num_negatives)
    return IndependentNegatives(rows=rows, labels=labels, num_negatives=num_negatives, indices=indices)


def shared_negatives(rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int) -> Negatives:
    """One draw of K rows, with replacement, for the whole batch; arguments and errors as ``independent_negatives``.

    The V rows of other classes than an anchor's weigh K/V each, which keeps the expectation. An anchor left with no
    row (K tiny, or few and unbalanced classes) has no negatives in that step. The noise of the draw is common to the
    batch and does not average out over it: K of 4,096 and more makes it small beside that of the batch itself.
    """
    _check(rows, classes, num_negatives)
    drawn = torch.randint(rows.shape[1], (num_negatives,), device=rows.device)
    return CommonNegatives(
        rows=rows.index_select(1, drawn), labels=labels, num_negatives=num_negatives, row_labels=classes.labels[drawn]
    )


def all_negatives(rows: Tensor, classes: ClassOrder, labels: Tensor, num_negatives: int) -> Negatives:
    """Every row of another class, weighing K/V each if there are V; arguments and errors as above.

    This is what the two drawn forms are on average, without their noise, at a cost that grows with N and not with K.
    """
    _check(rows, classes, num_negatives)
    return CommonNegatives(rows=rows, labels=labels, num_negatives=num_negatives, row_labels=classes.labels)


def _check(rows: Tensor, classes: ClassOrder, num_negatives: int) -> None:
    if num_negatives < 1:
        raise UserError(f"the number of negatives K is {num_negatives}; an anchor needs at least 1")
    if rows.ndim != 3 or rows.shape[1] != len(classes.labels):
        raise ValueError(
            f"memory banks of shape {tuple(rows.shape)} do not fit {len(classes.labels)} labels: "
            f"they must be [peers, {len(classes.labels)}, dimension], one row per training sample"
        )
