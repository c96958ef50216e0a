"""Embeddings judged by episodes: prototypes of a few images of each class, and others that are told apart by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torchmetrics
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import NetworkOutput
from classmates.data.batches.episodes import Episodes
from classmates.data.batches.randomness import generator
from classmates.losses.prototypes import Distance, episode_logits, episode_targets
from classmates.networks.backbone.observe import by_network
from classmates.tasks.protocol import Metric, MetricFormat, Protocol, Scores

if TYPE_CHECKING:
    from classmates.methods.base import Method

ACCURACY, LOSS, SPREAD, WORST = "accuracy", "loss", "class_spread", "worst_class"
TOGETHER = 1 << 24
"""How many numbers of embeddings are gathered at a time, 64 MB of them."""
SHOWN = 2
"""The number of episodes whose images a report shows."""


class Judged(NamedTuple):
    """Episodes as a network answers them. correct: [E, W, Q]. loss: [E], mean over queries, in nats."""

    correct: Tensor
    loss: Tensor

    @property
    def accuracy(self) -> Tensor:
        """Each episode's share of queries that are right, [E], float64."""
        return self.correct.double().mean(dim=(1, 2))


def judge(embeddings: Tensor, episodes: Tensor, shot: int, *, distance: Distance, scale: float) -> Judged:
    """Answer every episode with embeddings that were made once, gathered for some episodes at a time.

    embeddings: [N, D], of a whole split. episodes: [E, W, S + Q], rows of it, of each class the support first.
    shot: S.
    """
    ways, images = episodes.shape[1:]
    targets = episode_targets(ways, images - shot, embeddings.device)
    correct, loss = [], []
    for some in episodes.to(embeddings.device).split(max(1, TOGETHER // (ways * images * embeddings.shape[1]))):
        logits = episode_logits(embeddings[some], shot, distance=distance, scale=scale)
        correct.append((logits.argmax(-1) == targets).unflatten(1, (ways, -1)).cpu())
        each = F.cross_entropy(logits.flatten(0, 1), targets.repeat(len(some)), reduction="none")
        loss.append(each.view(len(some), -1).mean(dim=1).cpu())
    return Judged(torch.cat(correct), torch.cat(loss))


def t_interval(values: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Return mean ± t(n − 1) s / √n within 0 to 1, s the deviation with n − 1 in its denominator.

    values: shares, [n], n at least 2.
    """
    count, mean = len(values), values.mean().item()
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * values.std().item() / sqrt(count)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def by_class(judged: Judged, classes: Tensor) -> Tensor:
    """Return the share of right queries of each class that was drawn. classes: [E, W], of each episode."""
    shares = judged.correct.double().mean(dim=2).flatten()
    sums = torch.zeros(int(classes.max()) + 1, dtype=torch.float64).index_add(0, classes.flatten(), shares)
    counts = classes.flatten().bincount()
    return sums[counts > 0] / counts[counts > 0]


@dataclass(frozen=True)
class EpisodeProtocol(Protocol):
    """Mean accuracy over seeded episodes, the same list for every network; its interval is over episodes.

    It is by Student's t and treats episodes as independent. They share a split's few classes, so it says nothing of
    how well other classes would be told apart.

    Args:
        way, shot, queries: of an episode.
        episodes: how many, 2 or more.
        seed: of the list.
        distance, scale: between queries and prototypes, as in training.
    """

    name: ClassVar[str] = "few_shot"
    headline: ClassVar[str] = ACCURACY
    choosing: ClassVar[str | None] = LOSS
    counted: ClassVar[str] = "episodes"
    judged: ClassVar[str] = "embeddings"
    keeps_outcomes: ClassVar[bool] = True
    caution: ClassVar[str] = (
        "All episodes are drawn from the few classes of one split, so that they are not independent: their intervals "
        "say how much more of them would change, and nothing of how well other classes would be told apart."
    )
    metrics: ClassVar[Mapping[str, MetricFormat]] = {
        ACCURACY: MetricFormat("few-shot", "few-shot accuracy", percent=True),
        LOSS: MetricFormat("loss", "cross-entropy of the queries", better="less"),
        SPREAD: MetricFormat("class spread", "deviation of the classes' accuracies", percent=True, better="less"),
        WORST: MetricFormat("worst class", "accuracy of the worst class", percent=True),
    }

    way: int
    shot: int
    queries: int
    episodes: int
    seed: int
    distance: Distance
    scale: float

    @property
    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sampling(self) -> Episodes:
        """The episodes that it draws."""
        return Episodes(self.way, self.shot, self.queries, self.episodes)

    def draw(self, labels: Tensor) -> Tensor:
        """Draw the list of episodes of a split, rows of it, [E, W, S + Q]: a pure function of labels and seed."""
        return self.sampling.draw(labels.cpu(), generator("episodes", self.seed))

    def answers(self, predictions: Tensor, episodes: Tensor) -> Judged:
        """Answer episodes with embeddings [N, D]."""
        return judge(predictions, episodes, self.shot, distance=self.distance, scale=self.scale)

    def predictions(self, method: Method, outputs: list[NetworkOutput]) -> dict[str, Tensor]:
        """Return every network's embedding and, as the ensemble, their mean where they are of one width."""
        own = {who: output.embedding.float() for who, output in by_network(outputs).items()}
        peers = [output.embedding.float() for output in outputs[: len(method.networks)]]  # without their average
        if len(own) == 1 or len({embedding.shape[1] for embedding in peers}) > 1:
            return own
        return {**own, "ensemble": torch.stack(peers).mean(0)}

    def predictor(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        return network

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor | None = None) -> Scores:
        if not predictions.isfinite().all():
            raise ValueError("embeddings hold NaN or infinity: the network has diverged and cannot be scored")
        episodes = self.draw(labels)
        judged = self.answers(predictions, episodes)
        classes = by_class(judged, labels.cpu()[episodes[:, :, 0]])
        low, high = t_interval(judged.accuracy)
        values = {
            LOSS: judged.loss.double().mean().item(),
            SPREAD: classes.std().item(),
            WORST: classes.min().item(),
        }
        accuracy = Metric(judged.accuracy.mean().item(), low, high, self.episodes)
        rest = {
            name: Metric(value, count=self.episodes, better=self.metrics[name].better)
            for name, value in values.items()
        }
        return {ACCURACY: accuracy, **rest}

    def outcomes(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return the accuracy of each episode, [E]."""
        return self.answers(predictions, self.draw(labels)).accuracy

    def chance(self, labels: Tensor) -> float:
        return 1 / self.way

    def pictured(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return those of the first episodes, class by class, of each the support first."""
        return self.draw(labels)[:SHOWN].flatten()

    def arrays(self, predictions: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return ``episodes``, [E, W, S + Q] rows of the split, and each network's ``outcomes/WHO``, [E]."""
        episodes = self.draw(labels)
        outcomes = {f"outcomes/{who}": self.answers(own, episodes).accuracy for who, own in predictions.items()}
        return {"episodes": episodes, **outcomes}

    def fingerprint(self, labels: Tensor) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of the list's rows, as little-endian 64-bit numbers."""
        return hashlib.sha256(self.draw(labels).numpy().astype("<i8").tobytes()).hexdigest()[:16]

    def running(self) -> RunningEpisodes:
        return RunningEpisodes(self)


class RunningEpisodes(torchmetrics.Metric):
    """Accuracy and loss over the episodes of a split whose embeddings come in batches.

    Every process embeds the whole split, so that nothing is gathered from others.

    Args:
        protocol: draws the episodes and answers them.
    """

    full_state_update = False
    embeddings: list[Tensor]
    labels: list[Tensor]

    def __init__(self, protocol: EpisodeProtocol) -> None:
        super().__init__(sync_on_compute=False)
        self.protocol = protocol
        self.add_state("embeddings", [])
        self.add_state("labels", [])

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Keep a batch: embeddings [B, D], labels [B]."""
        self.embeddings.append(predictions.float())
        self.labels.append(labels)

    def compute(self) -> dict[str, float]:
        """Return accuracy and loss over the episodes of everything since the last reset."""
        episodes = self.protocol.draw(torch.cat(self.labels))
        judged = self.protocol.answers(torch.cat(self.embeddings), episodes)
        return {ACCURACY: judged.accuracy.mean().item(), LOSS: judged.loss.mean().item()}
