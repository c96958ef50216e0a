"""A protocol, by which networks are judged, and the metrics that it gives for each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torchmetrics
from torch import Tensor, nn

from classmates._text import aligned
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

    @property
    def half_width(self) -> float | None:
        """Half the length of its interval; None without one."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


Scores = dict[str, Metric]
"""The metrics of one network by name."""


@dataclass(frozen=True)
class MetricFormat:
    """The title and the format of a metric.

    Args:
        title: what stands at the head of a column ("NLL").
        name: the same in full ("negative log-likelihood").
        percent: whether it is a share, which is shown in percent.
        better: whether "more" or "less" of it is better.
    """

    title: str
    name: str
    percent: bool = False
    better: Better = "more"

    def text(self, value: float) -> str:
        """Return a value as people read it: ``98.75%``, or ``0.053`` for what is no share."""
        return f"{value:.2%}" if self.percent else f"{value:.3f}"

    def interval(self, metric: Metric) -> str:
        """Return a metric's interval as people read it: ``96.10%-98.75%``; empty without one."""
        return (
            "" if metric.low is None or metric.high is None else f"{self.text(metric.low)}-{self.text(metric.high)}"
        )

    @property
    def scale(self) -> float:
        """The factor from a value to the number that is shown: 100 for shares."""
        return 100.0 if self.percent else 1.0

    @property
    def digits(self) -> int:
        """The decimal places of the number that is shown."""
        return 2 if self.percent else 3

    @property
    def heading(self) -> str:
        """The title with its unit, for columns of bare numbers: ``top-1, %``."""
        return f"{self.title}, %" if self.percent else self.title


@dataclass(frozen=True)
class ProtocolRecord:
    """The part of a protocol that results keep, so that their scores can be read and shown without the task.

    Args:
        name: of the protocol.
        headline: the name of the metric that tables and searches go by.
        metrics: how each is written, by name, in the order of display.
        counted: what the counts of its metrics are of.
        judged: what is judged of a network: its "logits" or "embeddings" of the images.
        settings: what else says how networks were judged, such as the numbers of an episode.
        caution: what its intervals do not say, in a sentence; may be empty.
        outcomes: whether ``evaluation.npz`` keeps the outcome of each that is counted.
    """

    name: str
    headline: str
    metrics: Mapping[str, MetricFormat] = field(hash=False)
    counted: str = "images"
    judged: str = "logits"
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    caution: str = ""
    outcomes: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def main(self) -> MetricFormat:
        """The format of the headline."""
        return self.metrics[self.headline]

    @property
    def mode(self) -> Literal["max", "min"]:
        """The direction in which the headline gets better, as Lightning and Ray call it."""
        return "max" if self.main.better == "more" else "min"

    @property
    def monitored(self) -> str:
        """The name under which the student's headline on validation images is logged."""
        return f"val/student/{self.headline}"

    def at_chance(self, student: Metric, chance: float) -> str | None:
        """Say that a student is no better than always giving the commonest answer; None where it is better.

        student: its headline. chance: the headline of that answer.
        """
        if student.value > chance if student.better == "more" else student.value < chance:
            return None
        how = self.main
        return (
            f"its {how.title} is {how.text(student.value)}, and always giving the commonest answer has "
            f"{how.text(chance)}"
        )

    def shown(self, networks: Iterable[Scores]) -> dict[str, MetricFormat]:
        """Return the formats of those metrics that any of the networks has, in the order of display."""
        have = {name for scores in networks for name in scores}
        return {name: how for name, how in self.metrics.items() if name in have}

    def table(self, head: str, lines: Mapping[str, Scores]) -> str:
        """Return scores as text with aligned columns: a line for each network, its label in the column ``head``."""
        columns = [[head, *lines]]
        for name, how in self.shown(lines.values()).items():
            metrics = [scores.get(name) for scores in lines.values()]
            columns.append([how.title, *("-" if metric is None else how.text(metric.value) for metric in metrics)])
            intervals = ["" if metric is None else how.interval(metric) for metric in metrics]
            if any(intervals):
                columns.append(["95 % interval", *intervals])
        return "\n".join(aligned([*zip(*columns, strict=True)]))


class Protocol(ABC):
    """A task's way to judge networks. It alone knows the names of its metrics; all else goes by these attributes.

    Attributes:
        name: of the protocol, as results record it.
        metrics: by name, in the order of display: how each is written.
        headline: the name of the metric that tables and searches go by.
        choosing: the name of the metric by which a checkpoint is the best; the headline if None.
        counted: what the counts of its metrics are of.
        judged: what ``predictions`` gives of a network, "logits" or "embeddings".
        caution: what its intervals do not say, in a sentence; may be empty.
        keeps_outcomes: whether ``arrays`` has the outcome of each that is counted, as ``outcomes/WHO``.
    """

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, MetricFormat]]
    headline: ClassVar[str]
    choosing: ClassVar[str | None] = None
    counted: ClassVar[str] = "images"
    judged: ClassVar[str] = "logits"
    caution: ClassVar[str] = ""
    keeps_outcomes: ClassVar[bool] = False

    @abstractmethod
    def predictions(self, method: Method, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return what is judged of a batch, [B, ...], by whose it is: student, peer1, ..., ensemble, exit1, ..."""

    @abstractmethod
    def predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the same of a plain network alone: from images [B, C, H, W] to what is judged."""

    @abstractmethod
    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor | None = None) -> Scores:
        """Return every metric of one network on one split.

        predictions: [N, ...], of the whole split in its order. labels: [N]. groups: [N], equal for images that are
            not independent, for which an interval over images allows; None where there are none.
        """

    @abstractmethod
    def outcomes(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return a value for each image or whatever else is counted, [n] float64, whose mean is the headline.

        They are of the same images or episodes, in the same order, for all networks. predictions: [N, ...]. labels:
        [N].
        """

    @abstractmethod
    def chance(self, labels: Tensor) -> float:
        """Return the headline of always giving the commonest answer. labels: [N]."""

    @abstractmethod
    def pictured(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return the rows of the images that a report shows. predictions: [N, ...], the student's. labels: [N]."""

    def arrays(self, predictions: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return what ``evaluation.npz`` keeps beside labels and predictions. predictions: [N, ...], by network."""
        return {}

    def fingerprint(self, labels: Tensor) -> str | None:
        """Return a hash of what it draws to judge on a split of these labels, [N]; None where it draws nothing."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """What else says how it judges, as plain values."""
        return {}

    @abstractmethod
    def running(self) -> torchmetrics.Metric:
        """Return a cheap running score of one network, for validation during training.

        ``update(predictions, labels)`` takes a batch; ``compute()`` gives {metric: float}, the headline among them;
        it is summed over processes.
        """

    @property
    def record(self) -> ProtocolRecord:
        """The part of it that results keep."""
        return ProtocolRecord(
            self.name,
            self.headline,
            dict(self.metrics),
            self.counted,
            self.judged,
            self.settings,
            self.caution,
            self.keeps_outcomes,
        )

    @property
    def mode(self) -> Literal["max", "min"]:
        """The direction in which the metric that chooses checkpoints gets better, as Lightning calls it."""
        return "max" if self.metrics[self.choosing or self.headline].better == "more" else "min"

    @property
    def monitored(self) -> str:
        """The name under which the student's value of that metric on validation images is logged."""
        return f"val/student/{self.choosing or self.headline}"

    def read_version_1(self, scores: Mapping[str, Any]) -> Scores:
        """Return the scores of one network as results of version 1 held them; ValueError where there were none."""
        raise ValueError(f"results of version 1 have no scores of the protocol '{self.name}'")
