"""Mutual contrastive learning within a batch (MCL, Yang et al., AAAI 2022), by the classes of its images alone.

S_ab = V_a V_bᵀ / τ are the similarities of what peer a makes of every image with what peer b makes of every image:
row i is the anchor in a, column j in b. All pairs of peers are one tensor, [M, M, B, B]: within a peer where a = b
(the paper's vanilla contrastive learning, VCL), across peers elsewhere (interactive, ICL).
"""

from __future__ import annotations

import torch
from torch import Tensor

from classmates.losses.peers import float32_einsum
from classmates.losses.soft_targets import softened_kl


def similarities(embeddings: Tensor, temperature: float) -> Tensor:
    """Return S_ab for all pairs of peers, [M, M, B, B], float32.

    embeddings: [M, B, d], unit vectors. temperature: τ.
    """
    return float32_einsum("aid,bjd->abij", embeddings, embeddings) / temperature


def hard_contrast(similarity: Tensor, labels: Tensor) -> Tensor:
    """Return C_ab, how badly images of one class find each other: −mean_i mean_{j∈P(i)} log p_ab(j | i).

    p_ab(· | i) is the softmax of row i over all images but i itself, whichever peer made it; P(i) are the other
    images of i's class. An anchor that has none is left out of the mean.

    similarity: [..., B, B]. labels: [B]. Returns [...].
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = ((labels[:, None] == labels) & ~itself).float()
    log_p = similarity.float().masked_fill(itself, -torch.inf).log_softmax(-1).masked_fill(itself, 0)
    count = positive.sum(-1)
    per_anchor = (positive * log_p).sum(-1) / count.clamp(min=1)
    return -per_anchor.sum(-1) / (count > 0).sum().clamp(min=1)


def hard_terms(similarity: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ_a C_aa and Σ_{a≠b} C_ab: VCL and ICL. similarity: [M, M, B, B]."""
    contrast = hard_contrast(similarity, labels)
    within = contrast.diagonal().sum()
    return within, contrast.sum() - within


def soft_within(similarity: Tensor, temperature: float) -> Tensor:
    """Return Σ_{a≠b} KL(S_bb ‖ S_aa) between rows, without T²: peers agree on which images are alike (soft VCL).

    Rows hold the similarity of an image with itself, as in the released code. similarity: [M, M, B, B]; what stands
    left of ‖ is held constant. Returns a scalar, averaged over the batch.
    """
    own = similarity.diagonal().movedim(-1, 0)
    # All M² pairs in one call; the divergence of a peer's from its own is 0.
    return len(own) ** 2 * softened_kl(own[:, None].expand_as(similarity), own[None], temperature)


def soft_across(similarity: Tensor, temperature: float) -> Tensor:
    """Return Σ_{a≠b} KL(S_ba ‖ S_ab) between rows, without T² (soft ICL). Arguments and result as ``soft_within``."""
    return len(similarity) ** 2 * softened_kl(similarity, similarity.transpose(0, 1), temperature)
