"""Early exits: the accuracy of a network with exits, the compute it saves, and the thresholds of its exits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from classmates.errors import UserError
from classmates.networks.heads.exits import first_confident

# Confidences crowd below 1, and so do the thresholds that are tried.
CANDIDATES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)


class ExitScore(NamedTuple):
    """The score of a set of thresholds on a labelled set.

    accuracy: fraction of images whose class is right. cost: mean compute of an image, 1 the plain network's. saved:
    1 − cost; below 0 where the exits cost more than they spare. shares: fraction of the images that each exit
    answers, shallow to deep, then the ensemble.
    """

    accuracy: float
    cost: float
    saved: float
    shares: list[float]


class _Table(NamedTuple):
    """confidences: [k, N]. correct: [k + 1, N], the ensemble's last. costs: [k + 1]."""

    confidences: Tensor
    correct: Tensor
    costs: Tensor

    def score(self, thresholds: Sequence[float]) -> ExitScore:
        chosen = first_confident(self.confidences, torch.tensor(thresholds, dtype=self.confidences.dtype))
        accuracy = self.correct[chosen, torch.arange(len(chosen))].double().mean().item()
        cost = self.costs[chosen].mean().item()
        shares = chosen.bincount(minlength=len(self.costs)).double() / len(chosen)
        return ExitScore(accuracy, cost, 1 - cost, shares.tolist())


def score_exits(logits: Tensor, labels: Tensor, costs: Sequence[float], thresholds: Sequence[float]) -> ExitScore:
    """Return accuracy and compute of answering at the first exit whose largest probability exceeds its threshold.

    Where no exit is confident, the mean of all exits' logits answers, at the deepest's cost.

    Args:
        logits: [k, N, K], every exit's, shallow to deep.
        labels: [N].
        costs: compute until each exit answers, [k], 1 the plain network's (``MultiExit.costs``).
        thresholds: [k], between 0 (always answers) and 1 (never).

    Raises:
        ValueError: sizes that do not match.
    """
    if len(thresholds) != len(logits):
        raise ValueError(f"{len(thresholds)} thresholds for {len(logits)} exits")
    return _table(logits, labels, costs).score(thresholds)


def tune_thresholds(
    logits: Tensor, labels: Tensor, costs: Sequence[float], *, tolerance: float = 0.0, per_exit: bool = True
) -> list[float]:
    """Find the thresholds of least mean compute at which accuracy stays at the deepest exit's, less ``tolerance``.

    First one threshold for all exits is sought among ``CANDIDATES``, then, ``per_exit``, one after the other is
    changed alone until none can be improved (SCAN, the group's predecessor, uses a genetic search). Of equally cheap
    ones the more accurate are taken. Give it validation logits: what was tuned on the test set is no test.

    Args:
        logits, labels, costs: as for ``score_exits``.
        tolerance: fraction of accuracy that may be lost for less compute.
        per_exit: search beyond one threshold for all.

    Returns:
        One threshold an exit; 1 everywhere but 0 at the deepest (always the deepest) where nothing is gained.

    Raises:
        UserError: a negative tolerance.
        ValueError: sizes that do not match.
    """
    if tolerance < 0:
        raise UserError(f"tolerance={tolerance}: accuracy that may be lost is 0 or more")
    table = _table(logits, labels, costs)
    count = len(logits)
    deepest = [1.0] * (count - 1) + [0.0]
    least = table.score(deepest).accuracy - tolerance

    def rank(thresholds: list[float]) -> tuple[bool, float, float]:
        score = table.score(thresholds)
        return score.accuracy < least, score.cost, -score.accuracy

    best = min([deepest, *([value] * count for value in CANDIDATES)], key=rank)
    while per_exit:
        changed = min(_neighbours(best), key=rank)
        if rank(changed) >= rank(best):
            break
        best = changed
    return best


def _neighbours(thresholds: list[float]) -> Iterator[list[float]]:
    """Yield every set of thresholds that differs in one of them."""
    for place in range(len(thresholds)):
        for value in CANDIDATES:
            yield [*thresholds[:place], value, *thresholds[place + 1 :]]


def _table(logits: Tensor, labels: Tensor, costs: Sequence[float]) -> _Table:
    if logits.ndim != 3 or labels.shape != logits.shape[1:2] or len(costs) != len(logits):
        raise ValueError(
            f"logits {tuple(logits.shape)} must be [exits, images, classes], labels {tuple(labels.shape)} [images] "
            f"and costs, of which there are {len(costs)}, one an exit"
        )
    logits, labels = logits.detach().cpu().float(), labels.cpu()
    answers = torch.cat([logits, logits.mean(0, keepdim=True)]).argmax(-1)
    return _Table(
        logits.softmax(-1).amax(-1), answers == labels, torch.tensor([*costs, costs[-1]], dtype=torch.float64)
    )
