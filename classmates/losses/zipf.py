"""Zipf's label smoothing (Liang et al., ECCV 2022): soft targets for the wrong classes by their rank, 1/rank.

Each place of the last map votes for a class; the classes are ranked by their votes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.losses.decoupled import other_logits


def count_votes(logits: Tensor) -> Tensor:
    """Return how many places of a map each class wins, [B, K], float32. logits: [B, K, H, W], of every place."""
    winners = logits.argmax(1).flatten(1)
    votes = logits.new_zeros(logits.shape[:2], dtype=torch.float32)
    return votes.scatter_add_(1, winners, torch.ones_like(winners, dtype=torch.float32))


def rank(scores: Tensor) -> Tensor:
    """Return 1 + the number of classes with a higher score, for each class: ties share the best of their ranks.

    scores: [B, K]. Returns [B, K], float32.
    """
    negative = -scores
    ordered = negative.sort(dim=1).values
    return 1 + torch.searchsorted(ordered, negative.contiguous()).float()


def zipf_targets(scores: Tensor, labels: Tensor) -> Tensor:
    """Return q, the targets of all classes but the true one, [B, K − 1]: q_c = 1/rank_c over their sum.

    Ranks are among all classes, the true one too, as in the released code. scores: [B, K]. labels: [B].
    """
    shares = other_logits(1 / rank(scores), labels)
    return shares / shares.sum(1, keepdim=True)


def zipf_divergence(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Return KL(q ‖ p̂), p̂ the softmax over all classes but the true one: a scalar in float32.

    logits: [B, K]. targets: q, [B, K − 1], held constant. labels: [B].
    """
    log_p = other_logits(logits.float(), labels).log_softmax(1)
    return F.kl_div(log_p, targets.detach(), reduction="batchmean")
