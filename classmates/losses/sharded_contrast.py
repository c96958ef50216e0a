"""The contrast of MCL-OKD (``losses/contrast.py``) where each of G processes owns a part of the memory banks' rows.

Eq. 8 is a sum over negatives, and so are its gradient and the mean ē that normalises. Every process takes the anchors
of all, A = G·B, and sums over its own rows; the sums are added over the processes, and no negative is ever sent. With
the counts of all shards' negatives beforehand, what is added are shares of means:

    ē of a pair          1/A · Σ_i (e⁺_i + k·mean e⁻) / (k + 1)       M(M−1) numbers
    log ē of an anchor   log of the mean of e over all rows           M(M−1)·A numbers, normaliser "anchor" alone
    repulsion            Σ over pairs of mean log(1 + r)              A numbers, of which each process needs its own B
    its gradient         for each embedding, as an anchor             M·A·d numbers, of which each needs M·B·d

Exponentials are summed as they are: cosines are within ±1, so they lie between exp(−1/τ) and exp(1/τ), and below
τ = 1/30 they are taken in float64; a maximum over processes is not needed.

The mean of the processes' losses is the loss of one process with the A images and the whole bank, and so is the mean
of their gradients, which is what DistributedDataParallel makes. Layouts are those of ``losses/contrast.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.losses.contrast import Contrast, anchors_of, negative_mean, ordered_pairs, repulsion
from classmates.losses.negatives import every_row
from classmates.losses.shards import Shard, ShardNegatives


class Processes(NamedTuple):
    """How the processes' shares are added.

    add: the sum over all processes, to each of them. add_own: the sum, of which each process gets its own part along
    a dimension. own: which of all anchors are this process's.
    """

    add: Callable[[Tensor], Tensor]
    add_own: Callable[[Tensor, int], Tensor]
    own: slice


class Repulsion(NamedTuple):
    """What one shard's rows give: value [A], gradient [M, A, d], and the mean of r, [M, A, M−1]; each a share."""

    value: Tensor
    gradient: Tensor
    ratio: Tensor


def sharded_contrast(
    embeddings: Tensor,
    everyone: Tensor,
    positives: Tensor,
    negatives: ShardNegatives,
    processes: Processes,
    *,
    temperature: float,
    normaliser: Literal["batch"] | Tensor = "batch",
) -> Contrast:
    """L_contrast of Eq. 9 for this process's images, over the negatives of all shards.

    Only ``embeddings`` receive a gradient, made along with the value as in ``multi_view_contrast``; every process
    must take part. ē is that of all processes' anchors.

    Args:
        embeddings: [M, B, d], unit vectors, this process's.
        everyone: [M, A, d], those of all processes, in the order of their ranks.
        positives: [M, B, d], unit vectors, for this process's images.
        negatives: this shard's, for all A anchors; their counts are those of all shards.
        processes: how shares are added.
        temperature: τ.
        normaliser: "batch", or known values of log ē: [M, M], or [M, M, A] as ``anchor_log_mean_of_shards`` gives.

    Returns:
        The loss of this process's images, and log ē of all processes' anchors, [M, M].
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors = anchors_of(embeddings, temperature)
        positive = (anchors * positives.detach()[:, :, None]).sum(-1) / temperature
        banks, partners = ordered_pairs(len(embeddings), embeddings.device)
        if isinstance(normaliser, Tensor):
            of_pairs = normaliser.to(positive.dtype)[partners, banks]
            known = of_pairs[:, None] if of_pairs.ndim == 2 else of_pairs.mT
        else:
            means = negative_mean_share(everyone, negatives, temperature)
            known = processes.add(mean_share(positive, means, negatives, processes.own))[:, None].log()
        offset = known + math.log(negatives.num_negatives)
        share = repulsion_share(everyone, offset, negatives, temperature)
        packed = torch.cat([share.gradient.transpose(0, 1).flatten(1), share.value[:, None]], dim=1)
        value_and_gradient = processes.add_own(packed, 0)
        gradient = value_and_gradient[:, :-1].unflatten(1, (len(embeddings), -1)).movedim(1, 0)
        repelled = with_gradient(value_and_gradient[:, -1], embeddings, gradient)
        own_offset = offset if offset.shape[1] == 1 else offset[:, processes.own]
        attracted = F.softplus(own_offset - positive).mean(1).sum()
        mean = processes.add(mean_share(positive, share.ratio * offset.exp(), negatives, processes.own))
        log_mean = positive.new_zeros(len(embeddings), len(embeddings))
        log_mean[partners, banks] = mean.log()
        return Contrast(attracted + negatives.num_negatives * repelled.mean(), log_mean)


@torch.no_grad()
def negative_mean_share(everyone: Tensor, negatives: ShardNegatives, temperature: float) -> Tensor:
    """Return this shard's share of the mean of e⁻ over each anchor's negatives, [M, A, M−1]."""
    return torch.cat(
        [
            negative_mean(anchors_of(everyone[:, part], temperature), own, temperature)
            for part, own in negatives.parts()
        ],
        dim=1,
    )


@torch.no_grad()
def mean_share(positive: Tensor, of_negatives: Tensor, negatives: ShardNegatives, own: slice) -> Tensor:
    """Return this process's share of ē of each pair, [M, M−1]: of its own positives and its own rows.

    Args:
        positive: [M, B, M−1], s⁺/τ of this process's images.
        of_negatives: [M, A, M−1], its rows' share of the mean of e⁻.
        negatives: for K and the counts.
        own: which of the A anchors are this process's.
    """
    k = (negatives.num_negatives * (negatives.counts > 0))[:, None]
    total = (positive.exp() / (k[own] + 1)).sum(1) + (of_negatives * (k / (k + 1))).sum(1)
    return total / len(negatives.labels)


@torch.no_grad()
def repulsion_share(everyone: Tensor, offset: Tensor, negatives: ShardNegatives, temperature: float) -> Repulsion:
    """Return what this shard's rows add to Eq. 8's negative term of every anchor, and to its gradient.

    Args:
        everyone: [M, A, d], all processes' embeddings.
        offset: log K + log ē, [M, 1 or A, M−1].
        negatives: this shard's, with the counts of all.
        temperature: τ.
    """
    parts = []
    for part, own in negatives.parts():
        anchors = anchors_of(everyone[:, part], temperature)
        at = offset if offset.shape[1] == 1 else offset[:, part]
        value, ratio, gradient = repulsion(anchors, at, own, temperature)
        parts.append(Repulsion(value.sum((0, 2)), gradient_of_embeddings(gradient), ratio))
    values, gradients, ratios = zip(*parts, strict=True)
    return Repulsion(torch.cat(values), torch.cat(gradients, dim=1), torch.cat(ratios, dim=1))


def gradient_of_embeddings(gradient: Tensor) -> Tensor:
    """Return the sum over the banks that each embedding is an anchor in, [M, A, d], of gradients [M, A, M−1, d]."""
    peers = len(gradient)
    # Bank b has peer a = b + 1 + e (mod M) as its partner number e, so peer a is number e in bank a − 1 − e.
    each = torch.arange(peers - 1, device=gradient.device)
    banks = (torch.arange(peers, device=gradient.device)[:, None] - 1 - each) % peers
    return gradient.transpose(1, 2)[banks, each].sum(1)


def with_gradient(value: Tensor, embeddings: Tensor, gradient: Tensor) -> Tensor:
    """Return ``value`` [B] as a function of ``embeddings`` [M, B, d] whose gradient is known, [M, B, d]."""
    linear = (embeddings.to(gradient.dtype) * gradient).sum((0, 2))
    return value + (linear - linear.detach())


@torch.no_grad()
def anchor_log_mean_of_shards(everyone: Tensor, shard: Shard, processes: Processes, temperature: float) -> Tensor:
    """Return log ē of every anchor over all N rows of its partner's bank, [M, M, A], as ``anchor_log_mean`` does.

    Args:
        everyone: [M, A, d], all processes' embeddings.
        shard: this process's rows.
        processes: how shares are added.
        temperature: τ.
    """
    with torch.autocast(everyone.device.type, enabled=False):
        rows = every_row(shard.rows, everyone.shape[1])
        every = ShardNegatives(
            **{**vars(rows), "counts": torch.full_like(rows.counts, shard.samples)}, batches=shard.shards
        )
        means = processes.add(negative_mean_share(everyone, every, temperature))
        banks, partners = ordered_pairs(len(everyone), everyone.device)
        log_mean = means.new_zeros(len(everyone), len(everyone), everyone.shape[1])
        log_mean[partners, banks] = means.log().mT
        return log_mean
