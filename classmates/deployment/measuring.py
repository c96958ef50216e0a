"""The measures of an exported network: its answers on the test images beside the student's, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import Tensor
from torch.utils.data import Dataset

from classmates._progress import bar, note
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import ImageData
from classmates.deployment.text import signed_points
from classmates.errors import UserError
from classmates.evaluation.evaluate import settings_of
from classmates.evaluation.scored_images import is_own, load_as_trained
from classmates.runs.student import StudentCard, write_card
from classmates.runs.task_spec import stored_task
from classmates.tasks.metrics import variance_of_mean
from classmates.tasks.protocol import Metric, Protocol

BATCH = 32
"""Images at a time on the test images, and in the second of the two timings."""
WARM_UP, LEAST, MOST_SECONDS = 3, 20, 0.5
"""Calls before the clock runs; the fewest that are timed; the seconds after which no more are."""


Part = Literal["train", "val", "test"]


class Images:
    """A run's images as its student was tested on them, read when they are asked for.

    Args:
        run: the run's folder.
        card: of its student.
        data: other data to take the test images from, as in ``evaluate``; those of the run if None. Other parts are
            always the run's own: what a file is fitted to is never what it is scored on.
        data_dir: where the files of a data set known by name are.
        trust_code: run the Python file of a task of the run that is none of this package's.

    Raises:
        UserError: as ``evaluate``.
    """

    def __init__(
        self,
        run: Path,
        card: StudentCard,
        data: str | Path | Dataset[Any] | None,
        data_dir: str | Path | None,
        *,
        trust_code: bool,
    ):
        self.task = stored_task(run, trust_code=trust_code)
        self._of = (run, settings_of(run), card, data, data_dir)
        self._loaded: dict[str, ImageData] = {}

    @property
    def protocol(self) -> Protocol:
        return self.task.protocol

    @property
    def own(self) -> bool:
        """Whether the test images are the run's own."""
        run, settings, _, data, _ = self._of
        return data is None or is_own(data, run, settings)

    @property
    def groups(self) -> Tensor | None:
        """The groups of the test images, [N]; None where there are none."""
        return self.part("test").test.groups

    def part(self, split: Part) -> ImageData:
        """Return the images of a part, as ``test`` of what is returned; notes are said of those that are scored."""
        if split not in self._loaded:
            run, settings, card, data, data_dir = self._of
            if split != "test" and data is not None and not is_own(data, run, settings):
                data = data_dir = None
            loaded = load_as_trained(run, settings, card, data, data_dir, None, split, None, None, self.task)
            self._loaded[split] = loaded
            for text in loaded.notes if split == "test" else ():
                note(text)
        return self._loaded[split]

    def batches(self, split: Part, size: int = BATCH, most: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield prepared images [B, C, H, W] and labels [B]; ``most`` of them, drawn with a fixed seed, if given."""
        images = self.part(split)
        chosen = images.test
        if most is not None:  # in an order in which the first of them are of all classes
            chosen = chosen.take(torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))[:most])
        loader = eval_loader(images, chosen, size, num_workers=0, device=torch.device("cpu"))
        return ((batch.images, batch.labels) for batch in loader)

    def timed(self, size: int) -> Tensor:
        """Return so many prepared test images to time a network on; where there are fewer, they come again."""
        images, _ = next(self.batches("test", size, size))
        return images[torch.arange(size) % len(images)]

    def answers(
        self, runner: Callable[[Tensor], Tensor], size: int, name: str, part: Part = "test"
    ) -> tuple[Tensor, Tensor]:
        """Return what a runner gives of all images of a part, [N, ...], and their labels, [N]."""
        count = -(-len(self.part(part).test) // size)
        given, labels = [], []
        for images, truth in bar(self.batches(part, size), f"{name}: {part} images", "batch", count):
            with torch.inference_mode():  # PyTorch would keep what gradients need
                given.append(runner(images))
            labels.append(truth)
        return torch.cat(given), torch.cat(labels)


def note_in_card(run: Path, card: StudentCard, found: Mapping[str, Any], images: Images) -> None:
    """Write a card of the student with what was measured of its files, by format, on its own test images."""
    if not images.own:
        note("these test images are not the run's own: what was measured on them is in the table, not in its card")
    try:
        write_card(run, replace(card, exports={**card.exports, **found}) if images.own else card)
    except UserError as error:  # the files are there, and so is the table
        note(f"the measures are not in the student's card: {error}")


class Difference(NamedTuple):
    """A mean difference over the same images, with its 95 % interval.

    None where images of one group leave none, or where no two values differ, of which the spread is not known.
    """

    mean: float
    low: float | None
    high: float | None

    def in_points(self) -> str:
        """Return it as people read it: ``−0.25 [−0.75, +0.25]``."""
        mean, *ends = (signed_points(value) for value in self if value is not None)
        return f"{mean} [{', '.join(ends)}]" if ends else mean


def paired_difference(values: Tensor, reference: Tensor, groups: Tensor | None = None) -> Difference:
    """Return the mean of ``values - reference`` with the 95 % interval of paired values. Both: [n].

    The interval is the normal one; of images in groups, Student's of as many as there are groups.

    groups: [n], equal for images that are not independent; each its own if None.
    """
    differences = values.double() - reference.double()
    mean = differences.mean().item()
    count = len(differences if groups is None else groups.unique())
    if count == 1 or not differences.any():
        return Difference(mean, None, None)
    quantile = NormalDist().inv_cdf(0.975) if groups is None else float(student_t.ppf(0.975, count - 1))
    half = quantile * sqrt(variance_of_mean(differences, groups))
    return Difference(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Answers:
    """The answers of an exported network on the test images, beside the student's.

    score: the headline of the run's protocol. difference: of it to the student's, paired. agreement: fraction of the
    images of which both say the same class; None of embeddings.
    """

    score: Metric
    difference: Difference
    agreement: float | None


def compared(
    outputs: Tensor, student: Tensor, labels: Tensor, protocol: Protocol, groups: Tensor | None = None
) -> Answers:
    """Judge outputs of all test images, [N, ...], beside the student's. labels and groups: [N]."""
    ours, theirs = (protocol.outcomes(given, labels) for given in (outputs, student))
    same = None
    if protocol.judged == "logits":
        same = (outputs.argmax(dim=1) == student.argmax(dim=1)).double().mean().item()
    difference = paired_difference(ours, theirs, groups if protocol.counted == "images" else None)
    return Answers(protocol.score(outputs, labels, groups)[protocol.headline], difference, same)


class Latency(NamedTuple):
    """Milliseconds a call: median, 95th percentile and mean."""

    median: float
    p95: float
    mean: float


def latency_of(times: list[float]) -> Latency:
    """Summarise times of calls in seconds."""
    found = 1000 * np.array(times)
    return Latency(float(np.median(found)), float(np.quantile(found, 0.95)), float(found.mean()))


@torch.inference_mode()
def latency(runner: Callable[[Tensor], Any], images: Tensor) -> Latency:
    """Time a runner on a batch of images [B, C, H, W] again and again, after a few calls that do not count."""
    for _ in range(WARM_UP):
        runner(images)
    times: list[float] = []
    while len(times) < LEAST or sum(times) < MOST_SECONDS:
        start = time.perf_counter()
        runner(images)
        times.append(time.perf_counter() - start)
    return latency_of(times)


def torch_runner(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a network as a runner, without gradients."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(images)

    return run
