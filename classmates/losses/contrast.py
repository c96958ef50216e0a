"""Multi-view contrastive learning (MCL-OKD, Yang et al., ICASSP 2021, §3): peers agree on what a sample looks like.

Each peer's embedding of a sample (the anchor) is pulled to another peer's embedding of the same sample (the positive)
and pushed off that peer's embeddings of samples of other classes (the negatives, kept in a memory bank).

With e = exp(s/τ), s a cosine similarity, and ē the mean of e that the normaliser Z = N·ē stands for, the N of Eq. 6
cancels in Eq. 7, and the two terms of Eq. 8 are

    −log p(D=1 | positive)       = log(1 + K·ē/e⁺) = softplus(log K + log ē − s⁺/τ)
    −log (1 − p(D=1 | negative)) = log(1 + e⁻/(K·ē)) = softplus(s⁻/τ − log K − log ē)

Eq. 8 as printed adds +K·E[log(1 − p)], which would pull the negatives in; the sign must be minus, as in the released
code. That code also adds 1e-7 to the denominators, which moves the value by N·1e-7 for each pair and the gradient
next to nothing: left out here.

Tensors over pairs are laid out [M, B, M−1]: the bank's peer b, the sample, the anchors' peers b+1, b+2, … (mod M).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from classmates.errors import UserError, unknown
from classmates.losses.negatives import Negatives


def multi_view_contrast(
    embeddings: Tensor,
    positives: Tensor,
    negatives: Negatives,
    *,
    temperature: float,
    normaliser: Literal["batch", "anchor"] | Tensor = "batch",
) -> Tensor:
    """L_contrast of Eq. 9: the sum over all M(M−1) ordered pairs of peers of Eq. 8, averaged over the batch.

    Only ``embeddings`` receive a gradient, each as an anchor. The positives are constants even where they are the
    partner's live embeddings: every pair comes in both orders, so both peers learn from it, once each. A gradient
    into both sides would count the positives twice against the negatives.

    Nothing is kept for the backward pass but one gradient for each anchor and pair, whatever K and the banks' size.

    Args:
        embeddings: [M, B, d], unit vectors, M ≥ 2 peers.
        positives: [M, B, d], unit vectors; ``positives[b]`` is what peer b shows all others of each sample: its live
            embeddings (paper) or its rows of the memory bank (released code).
        negatives: for the same B samples, from M banks, and K.
        temperature: τ; 0.1 for CIFAR-100, 0.07 for ImageNet.
        normaliser: what ē averages e over, always as a constant. ``batch`` (released code, the default): the K+1
            columns of all the batch's anchors, for each ordered pair; ``anchor`` (paper, estimated): the K+1 columns
            of each anchor itself; or the values [M, M] of ``batch_normaliser`` on an earlier batch, as CRD freezes
            those of the first: with them the negatives are gone through once, otherwise twice.

    Returns:
        A scalar, at least float32 whatever the autocast.

    Raises:
        UserError: unknown normaliser; temperature not above 0; fewer than 2 peers.
        ValueError: shapes that do not match.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors, positive = _pairs(embeddings, positives, negatives, temperature)
        if isinstance(normaliser, Tensor):
            banks, partners = _ordered_pairs(len(embeddings), embeddings.device)
            log_mean = normaliser.to(positive.dtype)[partners, banks][:, None]
        elif normaliser == "batch":
            log_mean = _log_mean(anchors, positive, negatives, temperature, over_batch=True)
        elif normaliser == "anchor":
            log_mean = _log_mean(anchors, positive, negatives, temperature, over_batch=False)
        else:
            raise unknown("normaliser", normaliser, ["batch", "anchor"])
        offset = log_mean + math.log(negatives.num_negatives)
        attraction = F.softplus(offset - positive)
        repulsion = negatives.num_negatives * _MeanSoftplus.apply(anchors, offset, negatives, temperature)
        return (attraction + repulsion).mean(1).sum()


def batch_normaliser(embeddings: Tensor, positives: Tensor, negatives: Negatives, *, temperature: float) -> Tensor:
    """log ē of each ordered pair over one batch, [M, M], [a, b] for anchors of peer a in the bank of peer b.

    To be stored, and given to ``multi_view_contrast`` as its normaliser from then on. The diagonal, no pair, is 0.
    Arguments and errors as there.
    """
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        anchors, positive = _pairs(embeddings, positives, negatives, temperature)
        log_mean = _log_mean(anchors, positive, negatives, temperature, over_batch=True)
        banks, partners = _ordered_pairs(len(embeddings), embeddings.device)
        values = log_mean.new_zeros(len(embeddings), len(embeddings))
        values[partners, banks] = log_mean[:, 0]
        return values


def _ordered_pairs(peers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The banks' peers [M, 1] and, for each of them, all other peers [M, M−1]."""
    banks = torch.arange(peers, device=device)[:, None]
    return banks, (banks + torch.arange(1, peers, device=device)) % peers


def _pairs(embeddings: Tensor, positives: Tensor, negatives: Negatives, temperature: float) -> tuple[Tensor, Tensor]:
    """The anchors that face each bank, [M, B, M−1, d], and their logits s⁺/τ with the positives, [M, B, M−1]."""
    peers, _, dimension = negatives.rows.shape
    expected = (peers, len(negatives.labels), dimension)
    if embeddings.shape != expected or positives.shape != expected:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and positives {tuple(positives.shape)} must both be "
            f"{expected}, [peers, batch, dimension], to go with the negatives"
        )
    if len(embeddings) < 2:
        raise UserError(f"{len(embeddings)} peer cannot contrast with itself; multi-view contrast needs at least 2")
    if not temperature > 0:
        raise UserError(f"the temperature of the contrast is {temperature}; it must be above 0")
    _, partners = _ordered_pairs(len(embeddings), embeddings.device)
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    anchors = embeddings[partners].transpose(1, 2)
    return anchors, (anchors * positives.detach()[:, :, None]).sum(-1) / temperature


@torch.no_grad()
def _log_mean(
    anchors: Tensor, positive: Tensor, negatives: Negatives, temperature: float, *, over_batch: bool
) -> Tensor:
    """log ē over the K+1 columns of each anchor, [M, B, M−1], or of all the batch's, [M, 1, M−1].

    An anchor without a negative counts them as zeros. Unit vectors bound the logits by 1/τ: with that taken off
    before and put back after, no exponential overflows at any temperature.
    """
    largest = 1 / temperature
    queries = anchors * largest
    total = torch.zeros_like(positive)
    count = positive.new_zeros(len(negatives.labels))
    for block in negatives.blocks():
        total += block.logits(queries).sub_(largest).exp_().sum(-1)
        count += block.valid.sum(1)
    k = negatives.num_negatives
    mean = ((positive - largest).exp() + k * total / count.clamp(min=1)[:, None]) / (k + 1)
    return (mean.mean(1, keepdim=True) if over_batch else mean).log() + largest


class _MeanSoftplus(torch.autograd.Function):
    """Mean over each anchor's negatives of softplus(s⁻/τ − offset): [M, B, M−1], 0 for an anchor without any.

    The gradient, σ(s⁻/τ − offset)·negative/τ averaged likewise, is made along with the value, a block of negatives
    at a time, so that neither the similarities nor gathered rows are kept. The offset is a constant.
    """

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, offset: Tensor, negatives: Negatives, temperature: float) -> Tensor:
        queries = anchors / temperature
        total, gradient = torch.zeros_like(anchors[..., 0]), torch.zeros_like(anchors)
        count = anchors.new_zeros(len(negatives.labels))
        for block in negatives.blocks():
            logits = block.logits(queries).sub_(offset[..., None])
            total += F.softplus(logits).sum(-1)
            gradient += block.weighted_sum(logits.sigmoid_())
            count += block.valid.sum(1)
        count = count.clamp(min=1)[:, None]
        ctx.save_for_backward(gradient / (temperature * count[..., None]))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output[..., None] * gradient, None, None, None
