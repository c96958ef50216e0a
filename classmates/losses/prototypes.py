"""Prototypical networks (Snell, Swersky, Zemel, NeurIPS 2017): queries against the mean embeddings of classes."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.errors import check_choice

Distance = Literal["euclidean", "cosine"]


def prototypes(support: Tensor, distance: Distance = "euclidean") -> Tensor:
    """Return c_k, the mean embedding of each class's support (eq. 1): [..., W, S, D] → [..., W, D], float32.

    With the cosine, the mean of the embeddings at unit length.
    """
    support = support.float()
    return (support if distance == "euclidean" else F.normalize(support, dim=-1)).mean(dim=-2)


def prototype_logits(
    queries: Tensor, centres: Tensor, *, distance: Distance = "euclidean", scale: float = 1.0
) -> Tensor:
    """Return a query's logits of all classes, up to a number that is the same for all of them (eq. 2).

    Squared Euclidean distance: −s ‖f(q) − c_k‖², of which ‖f(q)‖², equal for all k, is left out, so that one batched
    product makes the logits of all episodes: s (2 f(q)·c_k − ‖c_k‖²). Cosine: s cos(f(q), c_k).

    Args:
        queries: f(q), [..., Q, D].
        centres: c_k, [..., W, D].
        distance: which of the two.
        scale: s. The paper has 1; some later work learns it or divides by D.

    Returns:
        [..., Q, W], float32 under any autocast: of 1600 squares half precision would lose the difference.
    """
    check_choice("distance", distance, Distance)
    with torch.autocast(queries.device.type, enabled=False):
        queries, centres = queries.float(), centres.float()
        if distance == "cosine":
            return scale * (F.normalize(queries, dim=-1) @ F.normalize(centres, dim=-1).mT)
        return scale * (2 * queries @ centres.mT - centres.square().sum(-1).unsqueeze(-2))


def episode_logits(embeddings: Tensor, shot: int, *, distance: Distance = "euclidean", scale: float = 1.0) -> Tensor:
    """Return the logits of every query of every episode.

    embeddings: [E, W, S + Q, D], of each class the S images of the support first. shot: S.

    Returns:
        [E, W·Q, W], the queries class by class, so that ``episode_targets`` are their classes.
    """
    support, queries = embeddings[:, :, :shot], embeddings[:, :, shot:]
    return prototype_logits(queries.flatten(1, 2), prototypes(support, distance), distance=distance, scale=scale)


def episode_targets(way: int, queries: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the class of each query of an episode, a number within the episode: [W·Q]."""
    return torch.arange(way, device=device).repeat_interleave(queries)


def prototypical_loss(logits: Tensor) -> Tensor:
    """Return the mean cross-entropy of all queries (the paper's J): [E, W·Q, W] → a scalar, float32."""
    episodes, queries, way = logits.shape
    targets = episode_targets(way, queries // way, logits.device)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.repeat(episodes))
