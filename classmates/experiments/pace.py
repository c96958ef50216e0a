"""How long runs take, by the epochs trained so far and by what was seen around them, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

import pandas as pd

from classmates.experiments.budget import place
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job

Place = tuple[str, str, str]


def epoch_seconds(ledger: Ledger, job: Job) -> list[float]:
    """Return the seconds of each finished epoch of a run; empty while there is none, or no table that can be read."""
    try:
        return [float(value) for value in pd.read_csv(ledger.run_folder(job) / "metrics.csv")["seconds"]]
    except (OSError, ValueError, KeyError):
        return []


def seconds_per_epoch(ledger: Ledger, jobs: Sequence[Job]) -> dict[Place, float]:
    """Return the median over all epochs trained so far, by (row, model, data); those without any are left out."""
    seconds: dict[Place, list[float]] = {}
    for job in jobs:
        seconds.setdefault(place(job), []).extend(epoch_seconds(ledger, job))
    return {where: median(values) for where, values in seconds.items() if values}


def expected_per_epoch(ledger: Ledger, jobs: Sequence[Job]) -> dict[Place, float]:
    """Return the seconds of an epoch, by (row, model, data); those of which nothing is known are left out.

    A row that has not trained an epoch yet is taken to cost what the others with its model and data do on average,
    each in proportion to the cost of a step that its method declares. Of another model, or other data, they tell
    nothing.
    """
    known = seconds_per_epoch(ledger, jobs)
    costs = {place(job): cost(job) for job in jobs}
    of_baseline: dict[tuple[str, ...], list[float]] = {}
    for where, seconds in known.items():
        of_baseline.setdefault(where[1:], []).append(seconds / costs[where])
    guessed = {where: fmean(of_baseline[where[1:]]) * its for where, its in costs.items() if where[1:] in of_baseline}
    return guessed | known


def cost(job: Job) -> float:
    """Return the time of a step of the run's method over Baseline's; 1 where a method of the user's own has none."""
    about = getattr(job.method.kind, "about", None)
    return 1.0 if about is None else float(about.cost)


class Left(NamedTuple):
    """The time that is left: about how many ``seconds``, but for the ``unknown`` runs of which nothing is known."""

    seconds: float
    unknown: int


def training_left(ledger: Ledger, jobs: Sequence[Job]) -> Left:
    """Return how long the unfinished runs still train, one after the other."""
    expected = expected_per_epoch(ledger, jobs)
    left = [job for job in jobs if ledger.result(job) is None]
    known = [job for job in left if place(job) in expected]
    seconds = (expected[place(job)] * (job.epochs - len(epoch_seconds(ledger, job))) for job in known)
    return Left(sum(seconds), len(left) - len(known))


class Pace:
    """The runs that this process has begun, by the clock: a run is more than the training of its epochs.

    Its process starts, it reads its images, validates, and tests its student. What that took is known of the runs
    that ended, and of those that run the part so far.

    Args:
        ledger: of the runs.
        jobs: every run, also those that others have made.
    """

    def __init__(self, ledger: Ledger, jobs: Sequence[Job]):
        self.ledger = ledger
        self.jobs = jobs
        self.begun: dict[str, tuple[float, int]] = {}
        self.around: list[float] = []

    def begin(self, job: Job) -> None:
        """Note that a run begins."""
        self.begun[job.name] = time.monotonic(), len(epoch_seconds(self.ledger, job))

    def end(self, job: Job) -> None:
        """Note that it has ended."""
        around = self._around(job)
        del self.begun[job.name]
        if self.ledger.result(job) is not None:
            self.around.append(around)

    def _around(self, job: Job) -> float:
        """Return the seconds that a run has taken so far beside the training of its epochs."""
        since, before = self.begun[job.name]
        return max(0.0, time.monotonic() - since - sum(epoch_seconds(self.ledger, job)[before:]))

    def left(self, jobs: Sequence[Job], at_a_time: int) -> Left:
        """Return how long it takes until these runs have ended.

        at_a_time: how many run beside one another.
        """
        expected = expected_per_epoch(self.ledger, self.jobs)
        known = [job for job in jobs if place(job) in expected]
        running = [job for job in known if job.name in self.begun]
        around = median(self.around) if self.around else max(map(self._around, running), default=0.0)
        seconds = []
        for job in known:
            trained = len(epoch_seconds(self.ledger, job))
            since, before = self.begun.get(job.name, (time.monotonic(), trained))
            whole = around + expected[place(job)] * (job.epochs - before)
            # A run that is slower than others were still has its epochs before it.
            seconds.append(max(whole - (time.monotonic() - since), expected[place(job)] * (job.epochs - trained)))
        longest = max(seconds, default=0.0)
        return Left(max(sum(seconds) / at_a_time, longest), len(jobs) - len(known))
