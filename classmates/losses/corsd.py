"""CORSD's losses on pairs of images (Yu et al., "Class-Oriented Relational Self Distillation", 2023).

A relation R in [0, 1] is a learned distance between the two images of a pair: small for a positive pair (same
class), large for a negative one (without an upper bound where its activation is "none", or where it is the distance
of maps). Every stage i = 1..k of the backbone yields its own, from shallow to deep, so the tensors here are stacked
over stages, [k, B, ...], the deepest last, and each loss is one call for all of them. The hyper-parameters in front
of the paper's equations (α, β, γ, λ, σ) belong to the method that sums the terms.

Where the paper leaves a point open, the default follows the released code (github.com/muzhou-yu/CORSD) or departs
from it for the reason given.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.errors import check_choice
from classmates.losses.peers import peers_cross_entropy
from classmates.losses.soft_targets import Reduction, softened_kl

BatchReduction = Literal["mean", "sum"]


def triplet_relation(positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Return Σ_i mean_B max(R_p^i − R_n^i + m, 0): the distance is short within a class (eq. 1 without α).

    positive, negative: [k, B]. Relations that end in a sigmoid differ by less than 1, so that at m = 1 the hinge
    never closes: the loss is then linear with the constant gradient (+1/B, −1/B). The margin only bites on
    unbounded relations, or below 1. Returns a scalar.
    """
    return F.relu(positive.float() - negative.float() + margin).mean(dim=-1).sum()


def relation_distillation(positive: Tensor, negative: Tensor, *, detach_deepest: bool = True) -> Tensor:
    """Return Σ_{i<k} mean_B [(R_p^i − R_p^k)² + (R_n^i − R_n^k)²]: shallow stages copy the deepest (eq. 2 without β).

    The paper writes an L2 norm, which of a scalar is its absolute value; the square is the released code's, and the
    one β = 0.01 was chosen with.

    Args:
        positive, negative: [k, B], k ≥ 2.
        detach_deepest: hold the deepest stage constant, for the paper describes a transfer from deep to shallow; the
            released code does not, which also pulls the deepest towards the shallow ones.

    Returns:
        A scalar.
    """
    relations = torch.stack([positive, negative]).float()
    deepest = relations[:, -1:]
    if detach_deepest:
        deepest = deepest.detach()
    return (relations[:, :-1] - deepest).square().mean(dim=-1).sum()


def auxiliary_task(logits: Tensor, targets: Tensor) -> Tensor:
    """Return Σ_i CE(φ(Z^i), y): the auxiliary classifiers' own task (eq. 3 and L_NAT, without γ(1 − λ)).

    logits: [k, B, C]. targets: [B] labels for positive pairs, [B, C] probabilities for negative ones (see
    ``pair_targets``). Stages are summed exactly as peers are. Returns a scalar.
    """
    return peers_cross_entropy(logits, targets)


def pair_targets(anchor_labels: Tensor, negative_labels: Tensor, num_classes: int) -> Tensor:
    """Return the soft label of a negative pair, y* = ½ y_o + ½ y_n (section 2.2).

    anchor_labels, negative_labels: [B], int64. Returns [B, C], float32, rows summing to 1. The released code passes
    these through another softmax at temperature 3, which leaves next to nothing of them; that is not followed.
    """
    classes = torch.arange(num_classes, device=anchor_labels.device)
    anchor = (anchor_labels[:, None] == classes).float()
    negative = (negative_labels[:, None] == classes).float()
    return (anchor + negative) / 2


def auxiliary_distillation(
    logits: Tensor,
    temperature: float = 3.0,
    *,
    reduction: Reduction = "batchmean",
    detach_deepest: bool = True,
    standardise: bool = False,
) -> Tensor:
    """Return Σ_{i<k} KL(φ(Z^k) ‖ φ(Z^i)): shallow classifiers copy the deepest one (eq. 4 and L_NLD, without γλ).

    Args:
        logits: [k, B, C], k ≥ 2.
        temperature: softens both sides. The paper names none, and the released code feeds raw logits to a KL that
            expects log-probabilities; 3 is what the same group's self-distillation (Zhang et al., TPAMI
            2021) uses.
        reduction: "batchmean" sums over classes; "mean", the released code's, divides that by C.
        detach_deepest: hold the deepest stage constant; the released code does not.
        standardise: see ``softened_kl``.

    Returns:
        A scalar.
    """
    shallow, deepest = logits[:-1], logits[-1]
    mean_over_stages = softened_kl(
        shallow, deepest, temperature, reduction=reduction, detach_teacher=detach_deepest, standardise=standardise
    )
    return len(shallow) * mean_over_stages


def logit_calibration(positive: Tensor, negative: Tensor, *, reduction: BatchReduction = "mean") -> Tensor:
    """Return R_p − R_n of the backbone's own logits (L_logit of section 2.2, without σ); there is no margin.

    positive, negative: [B]. reduction: "mean" over the batch, at which σ = 0.01 has the weight it has elsewhere; the
    released code takes the "sum". Returns a scalar.
    """
    check_choice("reduction", reduction, BatchReduction)
    difference = positive.float() - negative.float()
    return difference.mean() if reduction == "mean" else difference.sum()
