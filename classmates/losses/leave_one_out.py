"""The few images behind prototypes, each judged by prototypes that were made without it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.losses.prototypes import Distance


def distances(embeddings: Tensor, centres: Tensor, distance: Distance) -> Tensor:
    """Return the distance of each embedding from each centre, float64.

    Euclidean, not squared, so that twice as much is twice as far; or 1 − cos, from 0 to 2.

    embeddings: [..., N, D]. centres: [..., K, D]. Returns [..., N, K].
    """
    embeddings, centres = embeddings.double(), centres.double()
    if distance == "cosine":
        # 1 − cos is half the squared distance of unit vectors, and that is exact where it is small.
        return distances(F.normalize(embeddings, dim=-1), F.normalize(centres, dim=-1), "euclidean").square() / 2
    return torch.cdist(embeddings, centres, compute_mode="donot_use_mm_for_euclid_dist")


def dissimilarity(distances: Tensor, distance: Distance) -> Tensor:
    """Return what logits are the negative of, but for a factor: squared distances, or 1 − cos as it is."""
    return distances if distance == "cosine" else distances.square()


def leave_one_out(embeddings: Tensor, labels: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return the distances of images from prototypes that each lack one image: of its own class, that image itself.

    The distance from another class is the mean over which of its images is lacking. Were those prototypes whole, they
    would be of one image more than that of its own class, and so nearer: with two images a class, most would look as
    if they belonged elsewhere. A prototype of one image stays whole, and that image is not judged.

    Args:
        embeddings: [N, D].
        labels: [N], class numbers from 0, each class with one image or more.
        distance: as of prototypes.

    Returns:
        The distances, [n, K], and the labels, [n], of the n images that are not the only ones of their class.
    """
    points = F.normalize(embeddings.double(), dim=-1) if distance == "cosine" else embeddings.double()
    counts = labels.bincount()
    sums = points.new_zeros(len(counts), points.shape[1]).index_add_(0, labels, points)
    several = counts[labels] > 1
    lacking = torch.where(several[:, None], (sums[labels] - points) / (counts[labels, None] - 1).clamp(min=1), points)
    found = distances(points, lacking, distance)  # [N, N], row: which image; column: which one is lacking
    means = found @ F.one_hot(labels).double() / counts
    means[torch.arange(len(labels)), labels] = found.diagonal()
    return means[several], labels[several]


def fitted_scale(left_out: Tensor, labels: Tensor, distance: Distance) -> float:
    """Return the factor s from distance to logit by which left-out images are best told apart.

    It minimises the cross-entropy of softmax(−s d²) (temperature scaling, Guo et al., ICML 2017) with the targets of
    Platt (1999), (n+1)/(n+2) for the right class: with 1 for it, s would grow for ever where a few images are all
    told apart.

    left_out: [n, K], distances as of ``leave_one_out``. labels: [n].
    """
    count, classes = left_out.shape
    values = dissimilarity(left_out, distance)
    targets = torch.full_like(values, 1 / (count + 2) / (classes - 1))
    targets[torch.arange(count), labels] = (count + 1) / (count + 2)
    scales = torch.logspace(-3, 4, 1401, dtype=torch.float64) / values.mean()
    losses = -(targets * (-scales[:, None, None] * values).log_softmax(dim=-1)).sum(-1).mean(-1)
    return float(scales[losses.argmin()])


def reach(nearest: Tensor, share: float = 0.95) -> float:
    """Return the distance within which a share of images of these classes is expected from the nearest prototype.

    The conformal quantile (Vovk et al., 2005): of n distances the ⌈(n + 1) share⌉-th smallest. Of fewer than 19 the
    largest is taken, which one image in n + 1 is expected to exceed.

    nearest: [n], distances of images from the nearest prototype, as of ``leave_one_out``.
    """
    rank = min(len(nearest), math.ceil((len(nearest) + 1) * share))
    return float(nearest.sort().values[rank - 1])
