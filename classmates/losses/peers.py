"""Losses of several networks side by side: their cross-entropy on the labels, and their ensemble."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def peers_cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Return the sum over peers of each peer's mean cross-entropy: Σ_m L_ce^m (MCL-OKD, eq. 1 and 2).

    A sum, not a mean, so that every peer learns at the pace of a network trained alone.

    logits: [M, B, K], one row of samples per peer. targets: the same for every peer, [B] class numbers or [B, K]
    probabilities. class_weights: [K], a factor on what each class adds; with class numbers the mean is over the
    weights of the samples' classes, with probabilities over the samples, as torch has it, but for samples that all
    weigh 0: they give 0. label_smoothing: the share of the targets that is spread evenly over all classes. Returns a
    scalar, computed in float32 by one call for all peers.
    """
    peers = len(logits)
    repeated = targets.expand(peers, *targets.shape).flatten(0, 1)
    loss = partial(F.cross_entropy, logits.flatten(0, 1).float(), repeated, class_weights)
    if class_weights is None or targets.is_floating_point():
        return peers * loss(label_smoothing=label_smoothing)
    counted = class_weights[targets].sum()  # torch divides by it even where it is 0
    return loss(label_smoothing=label_smoothing, reduction="sum") / (counted + (counted == 0))


def ensemble_logits(logits: Tensor) -> Tensor:
    """Return the naive ensemble: the mean over peers of their logits (MCL-OKD, the exponent of eq. 3 at T = 1).

    logits: [M, B, K]. Returns [B, K], float32, with gradients to every peer.
    """
    return logits.float().mean(dim=0)


def softened_ensemble(logits: Tensor, temperature: float) -> Tensor:
    """Return logits whose softmax at T is the mean over networks of theirs: T log mean_m softmax(z_m / T).

    logits: [M, B, K]. Returns [B, K], float32, made of logarithms alone.
    """
    shares = F.log_softmax(logits.float() / temperature, dim=-1)
    return temperature * (shares.logsumexp(0) - math.log(len(logits)))


def float32_einsum(equation: str, *tensors: Tensor) -> Tensor:
    """Compute ``torch.einsum`` in float32: under autocast it would round even float32 factors to half."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        return torch.einsum(equation, *(tensor.float() for tensor in tensors))
