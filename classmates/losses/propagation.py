"""Batch knowledge ensembling (BAKE, Ge et al., 2021): predictions spread between the similar images of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NONE = -1e9
"""The affinity of an image to itself: no share beside others, and all of it where there is none (so that Q = P)."""


@torch.no_grad()
def propagate(embeddings: Tensor, predictions: Tensor, omega: float) -> Tensor:
    """Return Q = (1 − ω)(I − ωA)⁻¹ P: predictions mixed with those of similar images, infinitely often.

    A has in row i the softmax of the cosines of image i with all others. One linear system is solved in
    float32; I − ωA is diagonally dominant, so it has a solution for any ω below 1.

    embeddings: [B, D]. predictions: P, [B, K], rows summing to 1. omega: the share of the others in each mixing.
    Returns [B, K], rows summing to 1, a constant.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        identity = torch.eye(len(unit), device=unit.device)
        affinity = (unit @ unit.T).masked_fill(identity.bool(), NONE).softmax(1)
        # Not ``solve``, which makes the host wait to look whether it went well.
        mixed = torch.linalg.solve_ex(identity - omega * affinity, predictions.float()).result
    return (1 - omega) * mixed


def propagated_kl(logits: Tensor, embeddings: Tensor, omega: float, temperature: float) -> Tensor:
    """Return KL(Q ‖ p), p the softmax of logits / T and Q what they become in the batch, without T².

    logits: [B, K]. embeddings: [B, D]. Returns a scalar, summed over classes, averaged over the batch, in float32.
    """
    log_p = (logits.float() / temperature).log_softmax(1)
    targets = propagate(embeddings.detach(), log_p.detach().exp(), omega)
    return F.kl_div(log_p, targets, reduction="batchmean")
