"""Losses on the B x B similarities between the samples of a batch, whatever the features' widths."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """‖G_s − G_t‖²_F / B², G the batch's Gram matrix with rows of length 1 (Tung and Mori, ICCV 2019, eq. 2 to 4).

    Which images light up the teacher alike shall light up the student alike. It depends on the batch size.

    student, teacher: [B, ...], features of the same B samples, of any shapes; the teacher's are held constant.
    Returns a scalar, float32.
    """
    g_s, g_t = _row_similarities(student), _row_similarities(teacher.detach())
    return (g_s - g_t).square().mean()


def correlation_congruence(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Return the mean over all pairs of (K_s − K_t)², K a Gaussian kernel (Peng et al., ICCV 2019, section 3.3).

    student, teacher: embeddings [B, D], of any widths; the teacher's are held constant. gamma, order: see
    ``gaussian_kernel``. Returns a scalar, float32.
    """
    k_s, k_t = gaussian_kernel(student, gamma, order), gaussian_kernel(teacher.detach(), gamma, order)
    return (k_s - k_t).square().mean()


def gaussian_kernel(embeddings: Tensor, gamma: float, order: int) -> Tensor:
    """exp(−γ‖e_i − e_j‖²) between embeddings of length 1, by its Taylor series: [B, D] → [B, B].

    That distance is 2 − 2 cos, so it is exp(−2γ) Σ_p (2γ)^p/p! cos^p, here from p = 0 to ``order``, included.
    """
    unit = F.normalize(embeddings.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        cosines = unit @ unit.T
    terms = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(terms).sum(dim=0)


def _row_similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1).float()
    with torch.autocast(flat.device.type, enabled=False):
        return F.normalize(flat @ flat.T, dim=1)
