"""Sections that only a few-shot run's page has: episodes with their images, new classes, accuracy by way and shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classmates._progress import bar
from classmates.losses.prototypes import episode_logits
from classmates.reporting import figures, theme
from classmates.reporting.analysis import Integers, Points
from classmates.reporting.pictures import data_uri, drawable, is_small
from classmates.runs.reading import FinishedRun
from classmates.tasks.episodes import SHOWN, EpisodeProtocol, t_interval
from classmates.tasks.protocol import Metric

WAYS, SHOTS = (2, 5, 10, 20), (1, 2, 5, 10, 20)
FEWER = 200
"""Episodes of another way and shot than the run's own, at most: of large ones more would take minutes."""
MOST_CLASSES, MOST_IMAGES = 20, 500
"""Limits of the t-SNE."""
THUMBNAIL = 96


class Answer(NamedTuple):
    """An image of an episode. taken_for: the class that a query was wrongly taken for; None for the others."""

    row: int
    picture: str
    small: bool
    taken_for: str | None = None


class ShownClass(NamedTuple):
    """One class of an episode, with its support and its queries."""

    name: str
    support: list[Answer]
    queries: list[Answer]

    @property
    def right(self) -> int:
        """How many of the queries are right."""
        return sum(query.taken_for is None for query in self.queries)


def values(run: FinishedRun) -> dict[str, Any]:
    """Return what ``few_shot.html.j2`` shows."""
    protocol = EpisodeProtocol(**run.record.protocol.settings)
    embeddings, labels = torch.from_numpy(run.evaluation.logits), torch.from_numpy(run.evaluation.labels)
    counts = labels.bincount()
    grid = by_way_and_shot(embeddings, labels, protocol)
    return {
        "judged": protocol,
        "episodes": shown_episodes(run, protocol, embeddings) if drawable(run.evaluation.wrong_images) else [],
        "ways": list(dict.fromkeys(way for way, _ in grid)),
        "shots": list(dict.fromkeys(shot for _, shot in grid)),
        "grid": grid,
        "fewer": min(protocol.episodes, FEWER),
        "test_classes": len(counts),
        "fewest_images": int(counts.min()),
        "grid_svg": theme.svg(figures.accuracy_by_shot(grid, run.record.protocol.main), "by-shot"),
    }


def shown_episodes(run: FinishedRun, protocol: EpisodeProtocol, embeddings: Tensor) -> list[list[ShownClass]]:
    """Return the episodes whose images the run stored, as its student answers them. embeddings: [N, D], its own."""
    evaluation, shot = run.evaluation, protocol.shot
    stored = dict(zip(evaluation.wrong_rows.tolist(), evaluation.wrong_images, strict=True))
    episodes = evaluation.more["episodes"][:SHOWN]
    logits = episode_logits(
        embeddings[torch.from_numpy(episodes)], shot, distance=protocol.distance, scale=protocol.scale
    )
    predicted = logits.argmax(-1).unflatten(1, (protocol.way, -1)).tolist()
    return [
        shown_classes(rows, shot, answers, [run.class_names[label] for label in labels], stored)
        for rows, answers, labels in zip(episodes, predicted, evaluation.labels[episodes[:, :, 0]], strict=True)
    ]


def shown_classes(
    rows: Integers,
    shot: int,
    answers: Sequence[Sequence[int]],
    names: Sequence[str],
    stored: dict[int, NDArray[np.uint8]],
) -> list[ShownClass]:
    """Return the classes of one episode.

    rows: [W, S + Q]. shot: S. answers: [W, Q], the class of the episode that each query is taken for. names: [W].
    stored: the images by row.
    """

    def shown(row: int, taken_for: str | None = None) -> Answer:
        return Answer(row, data_uri(stored[row], THUMBNAIL), is_small(stored[row]), taken_for)

    return [
        ShownClass(
            names[way],
            [shown(row) for row in images[:shot]],
            [
                shown(row, None if answer == way else names[answer])
                for row, answer in zip(images[shot:], answers[way], strict=True)
            ],
        )
        for way, images in enumerate(rows.tolist())
    ]


def by_way_and_shot(embeddings: Tensor, labels: Tensor, protocol: EpisodeProtocol) -> dict[tuple[int, int], Metric]:
    """Return the accuracy by way and shot with its interval, of episodes drawn by the protocol's seed.

    The protocol's own way and shot are among them, with all of its episodes; the others have at most ``FEWER``.
    Ways go up to the number of classes, shots to the images of the smallest class without the queries.

    embeddings: [N, D]. labels: [N].
    """
    counts = labels.bincount()
    most_shots = int(counts.min()) - protocol.queries
    ways = sorted({way for way in WAYS if way <= len(counts)} | {protocol.way})
    shots = sorted({shot for shot in SHOTS if shot <= most_shots} | {protocol.shot})
    pairs = [(way, shot) for way in ways for shot in shots]
    found = {}
    for way, shot in bar(pairs, "accuracy by way and shot", "pair"):
        own = (way, shot) == (protocol.way, protocol.shot)
        episodes = protocol.episodes if own else min(protocol.episodes, FEWER)
        outcomes = replace(protocol, way=way, shot=shot, episodes=episodes).outcomes(embeddings, labels)
        found[way, shot] = Metric(outcomes.mean().item(), *t_interval(outcomes), count=episodes)
    return found


def new_classes(run: FinishedRun) -> Points:
    """Return the student's embeddings of images of at most ``MOST_CLASSES`` test classes, both drawn.

    Of each class there are as many, or all there are. A part may be sorted by class: its first images are of one.
    """
    labels, random = run.evaluation.labels, np.random.default_rng(0)
    present = np.unique(labels)
    chosen = np.sort(random.choice(present, min(len(present), MOST_CLASSES), replace=False))
    each = MOST_IMAGES // len(chosen)
    rows = np.concatenate([random.permutation(np.flatnonzero(labels == number))[:each] for number in chosen])
    return Points(
        [("embedding", run.evaluation.logits[rows])],
        np.searchsorted(chosen, labels[rows]),
        [run.class_names[number] for number in chosen],
    )
