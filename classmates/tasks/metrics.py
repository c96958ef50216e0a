"""Metrics of a classifier's logits: accuracy with its interval, likelihood and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from classmates.tasks.protocol import Metric, MetricFormat, Scores

TOP1, TOP5, NLL, BRIER, ECE = "top1", "top5", "nll", "brier", "ece"
METRICS = {
    TOP1: MetricFormat("top-1", "top-1 accuracy", percent=True),
    TOP5: MetricFormat("top-5", "top-5 accuracy", percent=True),
    NLL: MetricFormat("NLL", "negative log-likelihood", better="less"),
    BRIER: MetricFormat("Brier", "Brier score", better="less"),
    ECE: MetricFormat("ECE", "expected calibration error", percent=True, better="less"),
}
"""The format of each metric of a classifier, in the order of display."""


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Return every figure of merit of one classifier on one labelled set.

    - ``top1``, ``top5``: fractions of images whose class is the first, or among the first five; ``top5`` is there for
      more than five classes. The interval of ``top1`` (:func:`wilson_interval`) is about which images were drawn, not
      about the training run's luck.
    - ``nll``: mean negative log-likelihood, in nats.
    - ``brier``: mean over images of the sum over classes of (probability - truth)², from 0 to 2 (Brier, 1950).
    - ``ece``: expected calibration error of the first class, 15 equal bins (Guo et al., ICML 2017, eq. 3), as
      torchmetrics has it: a confidence of exactly 1 falls into a bin of its own.

    Args:
        logits: [N, K], on any device and of any precision; all is computed on the CPU, in float64 (bins in float32).
        labels: [N], the true classes.

    Raises:
        ValueError: shapes that do not match, no image, labels outside 0..K-1, or logits that are not finite.
    """
    logits, labels = logits.detach().cpu().double(), labels.detach().cpu()
    _check(logits, labels)
    count, classes = logits.shape
    log_probabilities = logits.log_softmax(dim=1)
    probabilities = log_probabilities.exp()
    correct = int((logits.argmax(dim=1) == labels).sum())
    values = {TOP1: correct / count}
    if classes > 5:
        values[TOP5] = (logits.topk(5).indices == labels[:, None]).any(dim=1).double().mean().item()
    values[NLL] = F.nll_loss(log_probabilities, labels).item()
    values[BRIER] = (probabilities - F.one_hot(labels, classes)).square().sum(dim=1).mean().item()
    values[ECE] = multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=15).item()
    return _scores(values, wilson_interval(correct, count), count)


def read_version_1(scores: Mapping[str, Any]) -> Scores:
    """Return what :func:`score` gave in version 1, a mapping of plain numbers, as it is now.

    Raises:
        KeyError, TypeError or ValueError: a number is missing or none.
    """
    low, high = map(float, scores["top1_interval"])
    values = {name: float(scores[name]) for name in METRICS if name != TOP5 or name in scores}
    return _scores(values, (low, high), int(scores["count"]))


def _scores(values: Mapping[str, float], interval: tuple[float, float], count: int) -> Scores:
    """Return values as metrics; the interval is that of top-1 accuracy."""
    found = {name: Metric(value, count=count, better=METRICS[name].better) for name, value in values.items()}
    return {**found, TOP1: Metric(values[TOP1], *interval, count, METRICS[TOP1].better)}


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval in which an accuracy lies with the given confidence (Wilson, JASA 1927).

    Unlike ``p ± z·sqrt(p(1-p)/n)`` it stays inside 0..1 and keeps its promise for few images and accuracies near 1.

    Raises:
        ValueError: ``count`` below 1, ``correct`` outside 0..count, or ``confidence`` outside 0..1.
    """
    if not 0 <= correct <= count or count < 1:
        raise ValueError(f"{correct} correct of {count}: need 0 <= correct <= count and count >= 1")
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
