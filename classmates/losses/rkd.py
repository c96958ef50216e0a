"""Relational knowledge distillation (Park et al., CVPR 2019): distances and angles between the samples of a batch.

Both losses see the embeddings' shape alone: moving, turning, mirroring or scaling all of them changes nothing, and
student and teacher may have any widths. The teacher's are held constant. Huber's loss is the paper's l_δ (δ = 1); its
mean is over all pairs or triples, the trivial ones (i = j) included, as released.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

VERTICES = 16
"""For how many vertices angles exist at a time."""


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Huber's loss between all pairs' distances, each side's in units of their mean (eq. 5 to 7).

    student, teacher: [B, D], of any widths. The mean is over the distances above 0, and the student's has a gradient.
    Returns a scalar, float32.
    """
    return F.smooth_l1_loss(scaled_distances(student), scaled_distances(teacher.detach()))


def scaled_distances(embeddings: Tensor) -> Tensor:
    """‖e_i − e_j‖ over their mean: [B, D] → [B, B]; all 0 where the embeddings are all the same."""
    distances = all_distances(embeddings)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.masked_fill(mean == 0, 1)


def all_distances(embeddings: Tensor) -> Tensor:
    """‖e_i − e_j‖: [B, D] → [B, B], float32."""
    # Not through matrix products, which are faster and lose the small distances.
    return torch.cdist(embeddings.float(), embeddings.float(), compute_mode="donot_use_mm_for_euclid_dist")


def relational_angle(student: Tensor, teacher: Tensor, vertices: Tensor | None = None) -> Tensor:
    """Return Huber's loss between the cosines of the angles ∠(i, k, j) at every vertex k (eq. 8 and 9).

    student, teacher: [B, D], of any widths. vertices: the numbers of those samples that are vertices; all if not
    given. Returns a scalar, float32, the mean over these. The cosines are made of the B² distances, whatever D is. A
    few vertices are looked at at a time, and their angles are made once more for the backward pass: B³ cosines never
    exist together.
    """
    if vertices is None:
        vertices = torch.arange(len(student), device=student.device)
    distances = all_distances(student), all_distances(teacher.detach())
    sums = [
        checkpoint(_angles_at, *distances, some, use_reentrant=False, preserve_rng_state=False)
        for some in vertices.split(VERTICES)
    ]
    return torch.stack(sums).sum() / (len(vertices) * len(student) ** 2)


def _angles_at(student: Tensor, teacher: Tensor, vertices: Tensor) -> Tensor:
    """Return the sum of Huber's loss over all angles at these vertices [V], from distances [B, B]."""
    return F.smooth_l1_loss(_cosines(student, vertices), _cosines(teacher, vertices), reduction="sum")


def _cosines(distances: Tensor, vertices: Tensor) -> Tensor:
    """cos ∠(i, k, j) for every k of ``vertices`` [V]: [V, B, B], 0 where i or j lies on k.

    By the law of cosines: (‖ik‖² + ‖jk‖² − ‖ij‖²) / 2‖ik‖‖jk‖.
    """
    sides = distances[vertices]
    # Where two samples coincide there is no direction; a small number in the place of 0 would make a huge gradient.
    inverse = (sides > 0) / sides.masked_fill(sides == 0, 1)
    squares = sides.square()
    numerator = squares[:, :, None] + squares[:, None, :] - distances.square()
    return numerator * (inverse[:, :, None] / 2 * inverse[:, None, :])
