"""The contrast with memory banks of which each process owns a part of the rows; the maths is in ``losses/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from classmates.contracts import Batch, NetworkOutput
from classmates.errors import UserError
from classmates.losses.sharded_contrast import Processes, anchor_log_mean_of_shards, sharded_contrast
from classmates.losses.shards import Shard, ShardNegatives, all_of_shard, drawn_from_shard, enough_of_shard
from classmates.networks.memory.bank_contrast import BankContrast, Draw
from classmates.networks.memory.gather import add, add_own, gather, place
from classmates.networks.memory.sharded_bank import ShardedBank


class ShardedBankContrast(BankContrast):
    """As ``BankContrast``, of the images of all processes: what one process makes of them with the whole bank.

    In a step all processes get each other's embeddings, labels and indices, contrast all anchors with their own rows,
    and add up what comes of it. A positive's row is fetched from its owner, and written by it alone.

    Args:
        widths, labels, negatives, options: as of ``BankContrast``.

    Raises:
        UserError: as there; ``negatives`` "independent".
    """

    bank: ShardedBank  # type: ignore[assignment]  # in the place of the whole one
    bank_type = ShardedBank
    draw: Callable[..., ShardNegatives]
    draws: ClassVar[Mapping[Draw, Callable[..., ShardNegatives]]] = {
        "auto": enough_of_shard,
        "shared": drawn_from_shard,
        "all": all_of_shard,
    }

    def __init__(self, widths: Sequence[int], labels: Tensor, *, negatives: Draw, **options: Any):
        if negatives == "independent":
            raise UserError(
                "bank=sharded and negatives=independent: rows of its own for each anchor would travel from all "
                "processes: use negatives=shared, all or auto, or bank=whole"
            )
        super().__init__(widths, labels, negatives=negatives, **options)

    def forward(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return the contrast of this process's images, a scalar; in training mode the banks learn of all batches."""
        embeddings = self.projections(outputs)
        self.bank.open()
        everyone = gather(embeddings.detach(), dim=1)
        labels, indices = gather(torch.stack([batch.labels, batch.indices]), dim=1)
        shard, processes = self._shard(), _processes(len(batch.labels))
        negatives = self.draw(shard, labels, self.num_negatives)
        loss, log_mean = sharded_contrast(
            embeddings,
            everyone,
            self._positives_of(embeddings, indices),
            replace(negatives, counts=add(negatives.counts)),
            processes,
            temperature=self.temperature,
            normaliser=self._normaliser_of(everyone, shard, processes),
        )
        if self.training:
            self._remember(log_mean)
            self.bank.write(indices, everyone)
        return loss

    def _shard(self) -> Shard:
        rank, processes = place()
        return Shard(
            rows=self.bank.rows,
            labels=self.classes.labels[rank::processes],
            written=self.bank.written if self.masks else None,
            samples=len(self.classes.labels),
            shards=processes,
            num_classes=len(self.classes.counts),
        )

    def _positives_of(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Return the positives of this process's images, [M, B, d]; indices [A] are those of all."""
        if self.positives == "live":
            return embeddings
        remembered = add_own(self.bank.fetch(indices), 1)
        if not self.masks:
            return remembered
        return torch.where(remembered[0].any(dim=-1)[:, None], remembered, embeddings)

    def _normaliser_of(self, everyone: Tensor, shard: Shard, processes: Processes) -> Literal["batch"] | Tensor:
        if self.normaliser == "anchor":
            return anchor_log_mean_of_shards(everyone, shard, processes, self.temperature)
        return self._kept_normaliser()


def _processes(batch: int) -> Processes:
    """Return how the shares of all processes are added, each of which has so many images."""
    first = place()[0] * batch
    return Processes(add, add_own, slice(first, first + batch))
