"""Classification of a fixed set of classes: cross-entropy, judged by accuracy, likelihood and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.parts import ImageData, Split
from classmates.data.readers.listing import listed
from classmates.errors import UserError
from classmates.losses.peers import peers_cross_entropy
from classmates.networks.backbone.observe import stack_logits
from classmates.networks.memory.gather import mean
from classmates.tasks.metrics import METRICS, TOP1, RunningAccuracy, read_version_1, score
from classmates.tasks.protocol import MetricFormat, Protocol, Scores
from classmates.tasks.task import Task

if TYPE_CHECKING:
    from classmates.methods.base import Method


WORST = 24
"""How many of the images that a classifier is most wrong about are shown."""


class ClassificationProtocol(Protocol):
    """Top-1 accuracy with Wilson's interval first; top-5, likelihood, Brier score and calibration error beside it."""

    name = "classification"
    headline = TOP1
    metrics: ClassVar[Mapping[str, MetricFormat]] = METRICS

    def predictions(self, method: Method, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        return method.predictions(outputs)

    def predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        return network

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor | None = None) -> Scores:
        return score(predictions, labels, groups)

    def outcomes(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return 1 where the class is right and 0 where it is wrong."""
        return (predictions.argmax(dim=1) == labels).double()

    def chance(self, labels: Tensor) -> float:
        """Return the share of the commonest class."""
        return labels.bincount().max().item() / len(labels)

    def pictured(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return those where a wrong class is preferred most to the right one, in order."""
        right = predictions.gather(1, labels[:, None]).squeeze(1)
        margin = predictions.max(1).values - right
        wrong = predictions.argmax(1) != labels
        order = margin.masked_fill(~wrong, -1).argsort(descending=True, stable=True)
        return order[: min(WORST, int(wrong.sum()))]

    def running(self) -> RunningAccuracy:
        return RunningAccuracy()

    def read_version_1(self, scores: Mapping[str, Any]) -> Scores:
        return read_version_1(scores)


@dataclass(frozen=True)
class Classification(Task):
    """Every image is of one of the classes that training, validation and test images share.

    Its one term is ``ce``, the sum over all networks of their mean cross-entropy, with the batch's labels or, where
    images are mixed, its soft targets.

    Args:
        class_weights: [K], a factor on each class in the cross-entropy, for classes of unequal size
            (``balanced_weights``); None for none.

    Raises:
        UserError: a weight that is below 0 or not finite, or none above 0.
    """

    name: ClassVar[str] = "classification"
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        weights = self.class_weights
        if weights is None:
            return
        object.__setattr__(self, "class_weights", tuple(weights))
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise UserError(f"class_weights are {list(weights)}: give numbers of 0 or more, not all of them 0")

    @property
    def weights(self) -> Mapping[str, float]:
        return {"ce": 1.0}

    @property
    def protocol(self) -> ClassificationProtocol:
        return ClassificationProtocol()

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"ce": lambda: self.cross_entropy(stack_logits(outputs), batch)}

    def cross_entropy(self, logits: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        weights = None if self.class_weights is None else on_device(tuple(self.class_weights), logits.device)
        own = peers_cross_entropy(logits, batch.truth, class_weights=weights, label_smoothing=label_smoothing)
        if weights is None or batch.targets is not None:
            return own
        counted = weights[batch.labels].sum()  # what the mean is over, which is to be that of all processes' images
        everyone = mean(counted)
        return own * (counted / (everyone + (everyone == 0)))

    def balanced(self, labels: Tensor, class_names: Sequence[str]) -> Classification:
        return replace(self, class_weights=balanced_weights(labels, class_names))

    def check_judged(self, split: Split, where: str) -> None:
        """Take every split: that its classes are the student's is for whoever knows the student."""

    def check_data(self, data: ImageData) -> None:
        if self.class_weights is not None and len(self.class_weights) != data.num_classes:
            raise UserError(
                f"class_weights are {len(self.class_weights)} numbers, but '{data.name}' has {data.num_classes} "
                "classes: give one a class"
            )
        for part, split in {"validation": data.val, "test": data.test}.items():
            if split is not None and split.class_names != data.train.class_names:
                different = set(split.class_names) ^ set(data.train.class_names)
                raise UserError(
                    f"the {part} images of '{data.name}' have other classes than the training images "
                    f"({', '.join(sorted(different)[:5])}): classification needs the same ones in all parts"
                )


def balanced_weights(labels: Tensor, class_names: Sequence[str]) -> tuple[float, ...]:
    """Return a weight for each class, N / (K · its images): all classes add the same to the cross-entropy.

    The mean over the images of their classes' weights is 1. labels: [N]. class_names: [K].

    Raises:
        UserError: classes without an image, which no weight makes up for.
    """
    counts = labels.bincount(minlength=len(class_names))
    if empty := [name for name, count in zip(class_names, counts.tolist(), strict=True) if not count]:
        raise UserError(
            f"class weights cannot be balanced: there is no training image of {listed(empty)}; add images, or remove "
            "the class"
        )
    return tuple((len(labels) / (len(counts) * counts.double())).tolist())


@cache
def on_device(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the weights as a tensor, copied to a device once and not at every step."""
    with torch.inference_mode(False):  # or whatever is kept could never be trained with
        return torch.tensor(weights, device=device)
