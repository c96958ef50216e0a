"""Embeddings of several networks, contrasted with what the others' memory banks keep (CRD, and after it MCL-OKD)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput
from classmates.errors import UserError, check_choice
from classmates.losses.contrast import anchor_log_mean, multi_view_contrast
from classmates.losses.negatives import (
    ENOUGH_ROWS,
    ClassOrder,
    Negatives,
    all_negatives,
    enough_negatives,
    independent_negatives,
    shared_negatives,
)
from classmates.networks.heads.projections import UnitProjections
from classmates.networks.memory.gather import mean
from classmates.networks.memory.memory_bank import MemoryBank

Positives = Literal["bank", "live"]
Normaliser = Literal["batch", "anchor", "first_batch", "lagged"]
Draw = Literal["auto", "independent", "shared", "all"]
Unwritten = Literal["random", "masked"]
BankDtype = Literal["float32", "bfloat16"]
LARGE = 1 << 28  # bytes of memory banks that are worth a word
LAG = 0.9  # how much of the lagged normaliser stays from one step to the next
DRAWS: dict[Draw, Callable[..., Negatives]] = {
    "auto": enough_negatives,
    "independent": independent_negatives,
    "shared": shared_negatives,
    "all": all_negatives,
}
BANK_DTYPES: dict[BankDtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class BankContrast(nn.Module):
    """Projections to the unit sphere, a memory bank for each network, and the contrast of all ordered pairs of them.

    Args:
        widths: the size of each network's embedding.
        labels: [N], the class of every training sample.
        num_negatives: K, how many negatives stand against one positive. Capped, with a note, at the samples of other
            classes there are.
        temperature: τ, above 0.
        positives: "bank" takes the partner's remembered embedding, "live" its present one.
        normaliser: "batch" takes one constant a pair and step, "anchor" one an anchor, over the whole bank,
            "first_batch" keeps the first step's, "lagged" takes a running mean over earlier steps.
        negatives: how they are chosen: see ``losses/negatives.py``.
        dimension: of the projected embeddings.
        momentum: of the banks.
        bank_dtype: of the banks' rows.
        unwritten: what stands for samples that no batch has had yet: "random" unit vectors, or "masked": they are no
            negatives, and as positives the partner's present embeddings take their place.

    Raises:
        UserError: K or d below 1, words that are none of an option's, all samples of one class, or a normaliser that
            cannot do without the rows that are masked.

    Attributes:
        notes: what had to be decided for the data at hand.
    """

    bank_type: ClassVar[Callable[..., Any]] = MemoryBank
    draws: ClassVar[Mapping[Draw, Callable[..., Negatives]]] = DRAWS
    bank: MemoryBank
    log_mean: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        labels: Tensor,
        *,
        num_negatives: int,
        temperature: float,
        positives: Positives = "bank",
        normaliser: Normaliser,
        negatives: Draw,
        dimension: int,
        momentum: float,
        bank_dtype: BankDtype,
        unwritten: Unwritten = "random",
    ):
        super().__init__()
        if num_negatives < 1:
            raise UserError(f"num_negatives={num_negatives}: a positive needs at least 1 negative to stand against")
        check_choice("positives", positives, Positives)
        check_choice("normaliser", normaliser, Normaliser)
        check_choice("negatives", negatives, Draw)
        check_choice("bank_dtype", bank_dtype, BankDtype)
        check_choice("unwritten", unwritten, Unwritten)
        if unwritten == "masked" and normaliser in ("anchor", "first_batch"):
            raise UserError(
                f"unwritten='masked' and normaliser='{normaliser}', which goes by banks that are still empty in the "
                "first step: use the normaliser batch or lagged"
            )
        self.temperature = temperature
        self.positives = positives
        self.normaliser = normaliser
        # By the K asked for, of which there may be fewer: whoever wants as many as the bank has means all of it.
        every = negatives == "auto" and len(labels) <= max(num_negatives, ENOUGH_ROWS)
        self.draw = self.draws["all" if every else negatives]
        self.classes = ClassOrder(labels)
        self.num_negatives = min(num_negatives, self.classes.pool)
        peers = len(widths)
        self.masks = unwritten == "masked"
        dtype = BANK_DTYPES[bank_dtype]
        self.notes = []
        if self.num_negatives < num_negatives:
            self.notes.append(
                f"num_negatives={num_negatives} capped to {self.num_negatives}: the training data have no more "
                "samples outside their largest class"
            )
        if (size := peers * len(labels) * dimension * dtype.itemsize) >= LARGE:
            smaller = "" if bank_dtype == "bfloat16" else "; bank_dtype bfloat16 halves that"
            self.notes.append(
                f"memory banks: {peers} times {len(labels):,} embeddings of {dimension}, {size / 1e9:.1f} GB{smaller}"
            )
        self.bank = self.bank_type(peers, len(labels), dimension, momentum=momentum, dtype=dtype, empty=self.masks)
        self.projections = UnitProjections(widths, dimension)
        # log ē of earlier batches, [M, M], once there were any: what "first_batch" and "lagged" go by.
        self.register_buffer("log_mean", torch.zeros(peers, peers))
        self.log_mean_known = False

    def forward(self, outputs: list[NetworkOutput], batch: Batch) -> Tensor:
        """Return the contrast (MCL-OKD, Eq. 9), a scalar; in training mode the banks then learn of the batch."""
        embeddings = self.projections(outputs)
        written = self.bank.written if self.masks else None
        negatives = self.draw(self.bank.rows, self.classes, batch.labels, self.num_negatives, written=written)
        loss, log_mean = multi_view_contrast(
            embeddings,
            self._positives(embeddings, batch.indices, written),
            negatives,
            temperature=self.temperature,
            normaliser=self._known_normaliser(embeddings),
            average=mean,
        )
        if self.training:
            self._remember(log_mean)
            self.bank.write(batch.indices, embeddings.detach())
        return loss

    def _positives(self, embeddings: Tensor, indices: Tensor, written: Tensor | None) -> Tensor:
        if self.positives == "live":
            return embeddings
        remembered = self.bank.read(indices)
        return remembered if written is None else torch.where(written[indices, None], remembered, embeddings)

    def _known_normaliser(self, embeddings: Tensor) -> Literal["batch"] | Tensor:
        if self.normaliser == "anchor":
            return anchor_log_mean(embeddings, self.bank.rows, self.temperature)
        return self._kept_normaliser()

    def _kept_normaliser(self) -> Literal["batch"] | Tensor:
        return self.log_mean if self.normaliser != "batch" and self.log_mean_known else "batch"

    def _remember(self, log_mean: Tensor) -> None:
        """Take in a batch's log ē: the first, or the running mean of ē."""
        if not self.log_mean_known:
            self.log_mean.copy_(log_mean)
        elif self.normaliser == "lagged":
            self.log_mean.copy_(torch.logaddexp(self.log_mean + math.log(LAG), log_mean + math.log(1 - LAG)))
        self.log_mean_known = True

    def get_extra_state(self) -> bool:
        return self.log_mean_known

    def set_extra_state(self, state: bool) -> None:
        self.log_mean_known = state
