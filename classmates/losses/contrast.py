"""Multi-view contrastive learning (MCL-OKD, Yang et al., ICASSP 2021, §3): peers agree on a sample's embedding.

Each peer's embedding of a sample (the anchor) is pulled to another peer's embedding of the same sample (the positive)
and pushed off that peer's embeddings of samples of other classes (the negatives, kept in a memory bank).

With e = exp(s/τ), s a cosine similarity, and ē the mean of e that the normaliser Z = N·ē stands for, the N of Eq. 6
cancels in Eq. 7, and the two terms of Eq. 8 are

    −log p(D=1 | positive)       = log(1 + K·ē/e⁺) = softplus(log K + log ē − s⁺/τ)
    −log (1 − p(D=1 | negative)) = log(1 + e⁻/(K·ē)) = softplus(s⁻/τ − log K − log ē)

Eq. 8 as printed adds +K·E[log(1 − p)], which would pull the negatives in; the sign must be minus, as in the released
code. That code also adds 1e-7 to the denominators, which moves the value by N·1e-7 for each pair and the gradient
next to nothing: left out here.

One pair and sample at a time the same is ``published`` in tests/losses/conftest.py: read that first.

Tensors over pairs are laid out [M, B, M−1]: the bank's peer b, the sample, the anchors' peers b+1, b+2, … (mod M).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from classmates.errors import UserError, unknown
from classmates.losses.negatives import Negatives, every_row

# From here on exp(2/τ), the largest ratio of two exponentials, times millions of rows stays within float32.
LEAST_FLOAT32_TEMPERATURE = 1 / 30
# Exponentials of the negatives are taken as powers of two: the same numbers, sooner on a CPU.
LOG2_E = math.log2(math.e)


class Contrast(NamedTuple):
    """loss: the contrast, a scalar. log_mean: log ē of each ordered pair in this batch, [M, M], constants.

    ``log_mean[a, b]`` is for anchors of peer a in the bank of peer b; the diagonal, no pair, is 0.
    """

    loss: Tensor
    log_mean: Tensor


def multi_view_contrast(
    embeddings: Tensor,
    positives: Tensor,
    negatives: Negatives,
    *,
    temperature: float,
    normaliser: Literal["batch"] | Tensor = "batch",
    average: Callable[[Tensor], Tensor] = lambda means: means,
) -> Contrast:
    """L_contrast of Eq. 9: the sum over all M(M−1) ordered pairs of peers of Eq. 8, averaged over the batch.

    Only ``embeddings`` receive a gradient, each as an anchor. The positives are constants even where they are the
    partner's live embeddings: every pair comes in both orders, so both peers learn from it, once each. A gradient
    into both sides would count the positives twice against the negatives.

    Nothing is kept for the backward pass but one gradient for each anchor and pair, whatever K and the banks' size.
    The negatives are gone through once where the normaliser is known beforehand, otherwise twice.

    Args:
        embeddings: [M, B, d], unit vectors, M ≥ 2 peers.
        positives: [M, B, d], unit vectors; ``positives[b]`` is what peer b shows all others of each sample: its live
            embeddings (paper) or its rows of the memory bank (released code).
        negatives: for the same B samples, from M banks, and K.
        temperature: τ; 0.1 for CIFAR-100, 0.07 for ImageNet. Below 1/30 exponentials are taken in float64.
        normaliser: what ē averages e over, always as a constant. ``batch`` (released code, the default): the K+1
            columns of all the batch's anchors, for each ordered pair; or known values of log ē: [M, M, B], one an
            anchor, as ``anchor_log_mean`` gives it (paper), or [M, M], such as the ``log_mean`` of earlier batches.
        average: makes means over the batches of all processes of the means over this one.

    Returns:
        The loss, at least float32 whatever the autocast, and this batch's own log ē, measured along the way.

    Raises:
        UserError: unknown normaliser; temperature not above 0; fewer than 2 peers.
        ValueError: shapes that do not match.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors, positive = _pairs(embeddings, positives, negatives, temperature)
        banks, partners = ordered_pairs(len(embeddings), embeddings.device)
        constant = positive.detach()
        if isinstance(normaliser, Tensor):
            of_pairs = normaliser.to(positive.dtype)[partners, banks]
            log_mean_used = of_pairs[:, None] if of_pairs.ndim == 2 else of_pairs.mT
        elif normaliser == "batch":
            of_negatives = negative_mean(anchors, negatives, temperature)
            log_mean_used = average(_mean(constant, of_negatives, negatives).mean(1, True)).log()
        else:
            raise unknown("normaliser", normaliser, ["batch"])
        offset = log_mean_used + math.log(negatives.num_negatives)
        repelled, ratio = _Repulsion.apply(anchors, offset, negatives, temperature)
        loss = (F.softplus(offset - positive) + negatives.num_negatives * repelled).mean(1).sum()
        log_mean = positive.new_zeros(len(embeddings), len(embeddings))
        log_mean[partners, banks] = average(_mean(constant, ratio * offset.exp(), negatives).mean(1)).log()
        return Contrast(loss, log_mean)


@torch.no_grad()
def anchor_log_mean(embeddings: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Return log ē of every anchor over all N rows of its partner's bank: log(Z_i / N) of Eq. 6, [M, M, B].

    Whatever negatives the contrast takes, this goes through the whole bank, rows of the anchor's own class included.

    Args:
        embeddings: [M, B, d], unit vectors, M ≥ 2 peers.
        rows: [M, N, d], the memory banks.
        temperature: τ.

    Returns:
        Constants; ``[a, b]`` is for anchors of peer a in the bank of peer b, the diagonal, no pair, is 0.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors = anchors_of(embeddings, temperature)
        banks, partners = ordered_pairs(len(embeddings), embeddings.device)
        means = negative_mean(anchors, every_row(rows, embeddings.shape[1]), temperature)
        log_mean = means.new_zeros(len(embeddings), len(embeddings), embeddings.shape[1])
        log_mean[partners, banks] = means.log().mT
        return log_mean


def ordered_pairs(peers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the banks' peers [M, 1] and, for each of them, all other peers [M, M−1]."""
    banks = torch.arange(peers, device=device)[:, None]
    return banks, (banks + torch.arange(1, peers, device=device)) % peers


def _pairs(embeddings: Tensor, positives: Tensor, negatives: Negatives, temperature: float) -> tuple[Tensor, Tensor]:
    """Return each bank's anchors, [M, B, M−1, d], and their logits s⁺/τ with the positives, [M, B, M−1]."""
    peers, _, dimension = negatives.rows.shape
    expected = (peers, len(negatives.labels), dimension)
    if embeddings.shape != expected or positives.shape != expected:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and positives {tuple(positives.shape)} must both be "
            f"{expected}, [peers, batch, dimension], to go with the negatives"
        )
    anchors = anchors_of(embeddings, temperature)
    return anchors, (anchors * positives.detach()[:, :, None]).sum(-1) / temperature


def anchors_of(embeddings: Tensor, temperature: float) -> Tensor:
    """Return each bank's anchors, [M, B, M−1, d], in a precision in which exponentials at this temperature fit."""
    if len(embeddings) < 2:
        raise UserError(f"{len(embeddings)} peer cannot contrast with itself; multi-view contrast needs at least 2")
    if not temperature > 0:
        raise UserError(f"the temperature of the contrast is {temperature}; it must be above 0")
    _, partners = ordered_pairs(len(embeddings), embeddings.device)
    least = torch.float32 if temperature >= LEAST_FLOAT32_TEMPERATURE else torch.float64
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, least))
    return embeddings[partners].transpose(1, 2).contiguous()


def _mean(positive: Tensor, of_negatives: Tensor, negatives: Negatives) -> Tensor:
    """ē of each anchor, [M, B, M−1], over one positive and K negatives; without negatives, of the positive alone."""
    k = (negatives.num_negatives * (negatives.counts > 0))[:, None]
    return (positive.exp() + k * of_negatives) / (k + 1)


@torch.no_grad()
def negative_mean(anchors: Tensor, negatives: Negatives, temperature: float) -> Tensor:
    """Return the mean of e⁻ = exp(s⁻/τ) over each anchor's negatives, [M, B, M−1]."""
    queries = anchors * (LOG2_E / temperature)
    total = torch.zeros_like(anchors[..., 0])
    for block in negatives.blocks():
        total += block.logits(queries).exp2_().sum(-1)
    return total / negatives.counts.clamp(min=1)[:, None]


@torch.no_grad()
def repulsion(
    anchors: Tensor, offset: Tensor, negatives: Negatives, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means of log(1 + r) and of r, [M, B, M−1] each, and the gradient of the first, [M, B, M−1, d].

    r = exp(s⁻/τ − offset), of each anchor and each of its negatives.

    As ``negative_mean`` they are sums over the negatives divided by ``negatives.counts``: where a part of the rows is
    at hand, and the counts are those of all, the results of all parts add up to the whole.
    """
    queries, offset = anchors * (LOG2_E / temperature), offset * LOG2_E
    value, ratio_sum = (torch.zeros_like(anchors[..., 0]) for _ in range(2))
    gradient = torch.zeros_like(anchors)
    halvings = _halvings(temperature, value.dtype)
    for block in negatives.blocks():
        ratio = block.logits(queries, offset).exp2_()
        ratio_sum += ratio.sum(-1)
        weights = torch.add(ratio, 1, out=block.scratch.take("weights", ratio.shape, ratio.dtype))
        block.add_weighted_sum(gradient, torch.div(ratio, weights, out=weights))
        value += sum_of_log1p(ratio, halvings)
    count = negatives.counts.clamp(min=1).to(anchors.dtype)[:, None]
    return value / count, ratio_sum / count, gradient / (temperature * count[..., None])


class _Repulsion(torch.autograd.Function):
    """Means over each anchor's negatives of log(1 + r), r = exp(s⁻/τ − offset), and of r: [M, B, M−1] each.

    The gradient, r/(1 + r)·negative/τ averaged likewise, is made along with the value, a block of negatives at a
    time, so that neither the similarities nor gathered rows are kept. The offset is a constant; the mean of r has no
    gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, offset: Tensor, negatives: Negatives, temperature: float
    ) -> tuple[Tensor, Tensor]:
        value, ratio_mean, gradient = repulsion(anchors, offset, negatives, temperature)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(ratio_mean)
        return value, ratio_mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output[..., None] * gradient, None, None, None


def sum_of_log1p(numbers: Tensor, halvings: int) -> Tensor:
    """Return Σ log(1 + x) over the last dimension, overwriting x: one logarithm for each 2^halvings numbers.

    (1 + x)(1 + y) = 1 + (x + y + xy), which is taken without the 1, so that nothing is lost of small numbers. That
    costs a third of the logarithms it saves. Where an odd count is left, the halving ends.
    """
    for _ in range(halvings):
        half, odd = divmod(numbers.shape[-1], 2)
        if odd:
            break
        first, second = numbers[..., :half], numbers[..., half:]
        numbers = first.add_(second.addcmul_(second, first))
    return numbers.log1p_().sum(-1)


def _halvings(temperature: float, dtype: torch.dtype) -> int:
    """Return how often 1 + r may be multiplied in pairs without overflow: of unit vectors r is at most exp(2/τ)."""
    factors = math.log(torch.finfo(dtype).max) * temperature / 2.1  # 2.1: rounded unit vectors are a little longer
    return max(0, min(2, math.floor(math.log2(factors))))  # a third halving would save next to nothing
