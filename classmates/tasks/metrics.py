"""Metrics of a classifier's logits: accuracy with its interval, likelihood and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from scipy.stats import t as student_t
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from classmates.tasks.protocol import Metric, MetricFormat, Scores

Interval = tuple[float, float] | tuple[None, None]
TOP1, TOP5, NLL, BRIER, ECE = "top1", "top5", "nll", "brier", "ece"
METRICS = {
    TOP1: MetricFormat("top-1", "top-1 accuracy", percent=True),
    TOP5: MetricFormat("top-5", "top-5 accuracy", percent=True),
    NLL: MetricFormat("NLL", "negative log-likelihood", better="less"),
    BRIER: MetricFormat("Brier", "Brier score", better="less"),
    ECE: MetricFormat("ECE", "expected calibration error", percent=True, better="less"),
}
"""The format of each metric of a classifier, in the order of display."""


def score(logits: Tensor, labels: Tensor, groups: Tensor | None = None) -> Scores:
    """Return every figure of merit of one classifier on one labelled set.

    - ``top1``, ``top5``: fractions of images whose class is the first, or among the first five; ``top5`` is there for
      more than five classes. The interval of ``top1`` (:func:`accuracy_interval`) is about which images were drawn,
      not about the training run's luck.
    - ``nll``: mean negative log-likelihood, in nats.
    - ``brier``: mean over images of the sum over classes of (probability - truth)², from 0 to 2 (Brier, 1950).
    - ``ece``: expected calibration error of the first class, 15 equal bins (Guo et al., ICML 2017, eq. 3), as
      torchmetrics has it: a confidence of exactly 1 falls into a bin of its own.

    Args:
        logits: [N, K], on any device and of any precision; all is computed on the CPU, in float64 (bins in float32).
        labels: [N], the true classes.
        groups: [N], equal for images that are not independent, such as those of one patient; each its own if None.

    Raises:
        ValueError: shapes that do not match, no image, labels outside 0..K-1, or logits that are not finite.
    """
    logits, labels = logits.detach().cpu().double(), labels.detach().cpu()
    _check(logits, labels)
    count, classes = logits.shape
    log_probabilities = logits.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    correct = logits.argmax(dim=1) == labels
    values = {TOP1: int(correct.sum()) / count}
    if classes > 5:
        values[TOP5] = (logits.topk(5).indices == labels[:, None]).any(dim=1).double().mean().item()
    values[NLL] = F.nll_loss(log_probabilities, labels).item()
    values[BRIER] = (probabilities - F.one_hot(labels, classes)).square().sum(dim=1).mean().item()
    values[ECE] = multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=15).item()
    return _scores(values, accuracy_interval(correct, groups), count)


def read_version_1(scores: Mapping[str, Any]) -> Scores:
    """Return what :func:`score` gave in version 1, a mapping of plain numbers, as it is now.

    Raises:
        KeyError, TypeError or ValueError: a number is missing or none.
    """
    low, high = map(float, scores["top1_interval"])
    values = {name: float(scores[name]) for name in METRICS if name != TOP5 or name in scores}
    return _scores(values, (low, high), int(scores["count"]))


def _scores(values: Mapping[str, float], interval: Interval, count: int) -> Scores:
    """Return values as metrics; the interval is that of top-1 accuracy."""
    found = {name: Metric(value, count=count, better=METRICS[name].better) for name, value in values.items()}
    low, high = interval
    return {**found, TOP1: Metric(values[TOP1], low, high, count, METRICS[TOP1].better)}


def accuracy_interval(correct: Tensor, groups: Tensor | None = None) -> Interval:
    """Return the 95 % interval of an accuracy, Wilson's; of images in groups, of as many as they are worth.

    That is the number of independent images whose mean would vary as much, less for what few groups leave unknown,
    and no more than there are (Korn & Graubard, Survey Methodology, 1998): of N images in G groups, with v of
    :func:`variance_of_mean` and t the 97.5 % quantile of Student's, min(N, p(1 - p) / v · (t(N - 1) / t(G - 1))²). It
    is G where all images are right, or none. One group alone leaves no interval. Where few groups hold all mistakes,
    these tell little of how groups vary, and the interval may be too narrow.

    Args:
        correct: [N], whether each image's class was right.
        groups: [N], equal for images of one group; each image its own if None.
    """
    count, share = len(correct), correct.double().mean().item()
    worth: float = count
    if groups is not None and (apart := len(groups.unique())) < count:
        if apart == 1:
            return None, None
        worth = apart
        if 0 < share < 1:
            variance = variance_of_mean(correct.double(), groups)
            scale = float(student_t.ppf(0.975, count - 1) / student_t.ppf(0.975, apart - 1)) ** 2
            worth = min(count, share * (1 - share) * scale / variance) if variance > 0 else count
    return wilson_interval(share * worth, worth)


def variance_of_mean(values: Tensor, groups: Tensor | None = None) -> float:
    """Return the estimated variance of the mean of values, [N], of which those of a group go together.

    With G groups, two or more, it is G / (G - 1) · Σ over groups of (Σ of their deviations from the mean)² / N²; with
    each value its own, as without groups, that is s² / N.
    """
    units = torch.arange(len(values)) if groups is None else groups.unique(return_inverse=True)[1]
    sums = torch.zeros(int(units.max()) + 1, dtype=torch.float64).index_add_(0, units, values - values.mean())
    return (len(sums) / (len(sums) - 1) * sums.square().sum() / len(values) ** 2).item()


def wilson_interval(correct: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval in which an accuracy lies with the given confidence (Wilson, JASA 1927).

    Unlike ``p ± z·sqrt(p(1-p)/n)`` it stays inside 0..1 and keeps its promise for few images and accuracies near 1.

    Raises:
        ValueError: ``count`` of 0, ``correct`` outside 0..count, or ``confidence`` outside 0..1.
    """
    if not 0 <= correct <= count or count == 0:
        raise ValueError(f"{correct} correct of {count}: need 0 <= correct <= count and count > 0")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    accuracy, shrink = correct / count, 1 + z**2 / count
    centre = (accuracy + z**2 / (2 * count)) / shrink
    half = z * sqrt(accuracy * (1 - accuracy) / count + (z / (2 * count)) ** 2) / shrink
    # Where none or all are right one end is exactly 0 or 1, which rounding would miss by a hair.
    return centre - half if correct > 0 else 0.0, centre + half if correct < count else 1.0


class RunningAccuracy(torchmetrics.Metric):
    """Top-1 accuracy and mean negative log-likelihood of a stream of batches, as validation in a training loop needs.

    ``update`` only adds on the device and waits for nothing; ``compute`` moves the sums to the host once, summed
    over all processes where training is distributed; ``reset`` starts anew. It must be on the logits' device
    (``.to(device)``; Lightning moves it with the module it is an attribute of).
    """

    full_state_update = False
    correct: Tensor
    nll: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("nll", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits [B, K] of any precision, labels [B]."""
        self.correct += (logits.argmax(dim=1) == labels).sum()
        self.nll += F.cross_entropy(logits.float(), labels, reduction="sum")
        self.count += len(labels)

    def compute(self) -> dict[str, float]:
        """Return ``{"top1": fraction, "nll": nats}`` of everything since the last reset.

        Raises:
            ValueError: nothing was added.
        """
        correct, nll, count = torch.stack([self.correct, self.nll, self.count]).tolist()
        if count == 0:
            raise ValueError("no image was scored: give update() at least one batch before compute()")
        return {TOP1: correct / count, NLL: nll / count}


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits must be [N, K] and labels [N], got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if len(labels) == 0:
        raise ValueError("there is no image to score: logits and labels are empty")
    if not logits.isfinite().all():
        raise ValueError("logits hold NaN or infinity: the network has diverged and cannot be scored")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels go from {low} to {high}, but the logits have {logits.shape[1]} classes")
