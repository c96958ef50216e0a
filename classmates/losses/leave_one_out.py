"""What the few images behind prototypes say about themselves, each judged by the others of its class."""

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
        return 1 - F.normalize(embeddings, dim=-1) @ F.normalize(centres, dim=-1).mT
    return torch.cdist(embeddings, centres, compute_mode="donot_use_mm_for_euclid_dist")


def dissimilarity(distances: Tensor, distance: Distance) -> Tensor:
    """Return what logits are the negative of, but for a factor: squared distances, or 1 − cos as it is."""
    return distances if distance == "cosine" else distances.square()


def leave_one_out(embeddings: Tensor, labels: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return the distances of images from prototypes, that of their own class made without them.

    An image that is the only one of its class is left out: nothing is left to judge it by.

    Args:
        embeddings: [N, D].
        labels: [N], class numbers from 0, each class with one image or more.
        distance: as of prototypes.

    Returns:
        The distances, [n, K], and the labels, [n], of the n images that are not the only ones.
    """
    points = F.normalize(embeddings.double(), dim=-1) if distance == "cosine" else embeddings.double()
    counts = labels.bincount()
    sums = points.new_zeros(len(counts), points.shape[1]).index_add_(0, labels, points)
    chosen = (counts[labels] > 1).nonzero()[:, 0]
    points, labels = points[chosen], labels[chosen]
    found = distances(points, sums / counts[:, None], distance)
    others = (sums[labels] - points) / (counts[labels] - 1)[:, None]
    # A batch for each image, of one embedding and one centre.
    found[torch.arange(len(labels)), labels] = distances(points[:, None], others[:, None], distance)[:, 0, 0]
    return found, labels


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


def reach(own: Tensor, share: float = 0.95) -> float:
    """Return the distance within which a share of images is expected from the prototype of their own class.

    The conformal quantile (Vovk et al., 2005): of n distances the ⌈(n + 1) share⌉-th smallest. Of fewer than 19 the
    largest is taken, which one image in n + 1 is expected to exceed.

    own: [n], distances of images from the prototype of the others of their class.
    """
    rank = min(len(own), math.ceil((len(own) + 1) * share))
    return float(own.sort().values[rank - 1])
