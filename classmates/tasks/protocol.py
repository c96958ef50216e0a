"""How networks are judged: a protocol, and the metrics that it gives for each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torchmetrics
from torch import Tensor, nn

from classmates.contracts import NetworkOutput

if TYPE_CHECKING:
    from classmates.methods.base import Method

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Metric:
    """One figure of merit of one network.

    Args:
        value: the figure itself; shares lie in 0..1.
        low, high: its 95 % interval; None for a metric without one.
        count: how many images or episodes it is the mean of.
        better: whether "more" or "less" of it is better.
    """

    value: float
    low: float | None = None
    high: float | None = None
    count: int | None = None
    better: Better = "more"


Scores = dict[str, Metric]
"""The metrics of one network by name."""


@dataclass(frozen=True)
class MetricFormat:
    """How a metric is written: its title, whether in percent, and whether more or less of it is better."""

    title: str
    percent: bool = False
    better: Better = "more"

    def text(self, value: float, digits: int = 2) -> str:
        """``98.75%``, or ``0.053`` with one digit more for what is no share."""
        return f"{value:.{digits}%}" if self.percent else f"{value:.{digits + 1}f}"


class Protocol(ABC):
    """How a task judges networks. It alone knows the names of its metrics; all else goes by these attributes.

    Attributes:
        name: of the protocol, as results record it.
        metrics: by name, in the order of display: how each is written.
        headline: the name of the metric that tables, choices of checkpoints and searches go by.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, MetricFormat]]
    headline: ClassVar[str]

    @abstractmethod
    def predictions(self, method: Method, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """What is judged of a batch, [B, ...], by whose it is: student, peer1, ..., ensemble, exit1, ..."""

    @abstractmethod
    def predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """The same of a plain network alone: from images [B, C, H, W] to what is judged."""

    @abstractmethod
    def score(self, predictions: Tensor, labels: Tensor) -> Scores:
        """Every metric of one network on one split.

        predictions: [N, ...], of the whole split in its order. labels: [N].
        """

    @abstractmethod
    def running(self) -> torchmetrics.Metric:
        """A cheap running score of one network, for validation during training.

        ``update(predictions, labels)`` takes a batch; ``compute()`` gives {metric: float}, the headline among them;
        it is summed over processes.
        """

    @property
    def mode(self) -> Literal["max", "min"]:
        """Which way the headline gets better, as Lightning and Ray call it."""
        return "max" if self.metrics[self.headline].better == "more" else "min"

    def read_version_1(self, scores: Mapping[str, Any]) -> Scores:
        """The scores of one network as results of version 1 held them; ValueError where there were none of these."""
        raise ValueError(f"results of version 1 have no scores of the protocol '{self.name}'")
