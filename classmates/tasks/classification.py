"""Classification of a fixed set of classes: cross-entropy, judged by accuracy, likelihood and calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput, Terms
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.losses.peers import peers_cross_entropy
from classmates.networks.backbone.observe import stack_logits
from classmates.tasks.metrics import METRICS, TOP1, RunningAccuracy, read_version_1, score
from classmates.tasks.protocol import MetricFormat, Protocol, Scores
from classmates.tasks.task import Task

if TYPE_CHECKING:
    from classmates.methods.base import Method


class ClassificationProtocol(Protocol):
    """Top-1 accuracy with Wilson's interval first; top-5, likelihood, Brier score and calibration error beside it."""

    name = "classification"
    headline = TOP1
    metrics: ClassVar[Mapping[str, MetricFormat]] = METRICS

    def predictions(self, method: Method, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        return method.predictions(outputs)

    def predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        return network

    def score(self, predictions: Tensor, labels: Tensor) -> Scores:
        return score(predictions, labels)

    def chance(self, labels: Tensor) -> float:
        """Return the share of the commonest class."""
        return labels.bincount().max().item() / len(labels)

    def running(self) -> RunningAccuracy:
        return RunningAccuracy()

    def read_version_1(self, scores: Mapping[str, Any]) -> Scores:
        return read_version_1(scores)


@dataclass(frozen=True)
class Classification(Task):
    """Every image is of one of the classes that training, validation and test images share.

    Its one term is ``ce``, the sum over all networks of their mean cross-entropy.
    """

    name: ClassVar[str] = "classification"

    @property
    def weights(self) -> Mapping[str, float]:
        return {"ce": 1.0}

    @property
    def protocol(self) -> ClassificationProtocol:
        return ClassificationProtocol()

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"ce": lambda: peers_cross_entropy(stack_logits(outputs), batch.labels)}

    def check_data(self, data: ImageData) -> None:
        for part, split in {"validation": data.val, "test": data.test}.items():
            if split is not None and split.class_names != data.train.class_names:
                different = set(split.class_names) ^ set(data.train.class_names)
                raise UserError(
                    f"the {part} images of '{data.name}' have other classes than the training images "
                    f"({', '.join(sorted(different)[:5])}): classification needs the same ones in all parts"
                )
