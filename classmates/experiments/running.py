"""Running a list of jobs to its end, beside other processes on the same ledger, with a line on progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from classmates._progress import Status
from classmates._time_limit import time_limit
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import Pace
from classmates.experiments.plan import Job
from classmates.experiments.workers import Workers
from classmates.reporting.page import duration

POLL = 0.2
"""Seconds between looks at what the workers do."""
REFRESH = 5.0
"""Seconds between estimates of the time left, while no run ends."""


def run_all(
    ledger: Ledger, jobs: Sequence[Job], workers: Workers, description: str, *, deadline: float | None = None
) -> None:
    """Try every job once that is not done yet; those that another process has are waited for.

    A job that fails stops nothing; the ledger knows why. On an interruption the workers are stopped, and the same
    call goes on later.

    deadline: by ``time.monotonic``: no job is begun after it; those that run come to their end.
    """
    started = datetime.now(UTC).isoformat(timespec="microseconds")
    left = [job for job in jobs if ledger.result(job) is None]
    running: list[Job] = []
    with Board(ledger, jobs, description, deadline) as board:
        try:
            while left or running:
                for ended, tried in workers.ended():
                    running.remove(ended)
                    board.pace.end(ended)
                    if not tried:
                        left.append(ended)
                    elif not ledger.is_accounted_for(ended):
                        ledger.note_failure(ended, "it ended without a result and without an error; see its log")
                board.show(running, left, max(1, len(running) + workers.free))
                if deadline is not None and time.monotonic() >= deadline:
                    left.clear()
                job = next_job(ledger, left, started) if workers.free else None
                if job is not None:
                    running.append(job)
                    board.pace.begin(job)
                    workers.start(job)
                elif left or running:
                    time.sleep(POLL)
        finally:
            workers.stop()


def deadline_after(limit: str) -> float:
    """Return when this time from now is over, by ``time.monotonic``; UserError as :func:`time_limit` has it."""
    return time.monotonic() + time_limit(limit).total_seconds()


def next_job(ledger: Ledger, left: list[Job], started: str) -> Job | None:
    """Take the first job off the list that nobody runs, and those that others have ended meanwhile."""
    for job in list(left):
        if ledger.is_running(job):
            continue
        left.remove(job)
        failure = ledger.failure(job)
        failed_meanwhile = failure is not None and failure.get("time", "") >= started
        if ledger.result(job) is None and not failed_meanwhile:
            return job
    return None


class Board:
    """A line on how many runs are done, running and failed, and about how long the rest takes."""

    def __init__(self, ledger: Ledger, jobs: Sequence[Job], description: str, deadline: float | None = None):
        self.ledger = ledger
        self.jobs = jobs
        self.description = description
        self.deadline = deadline
        self.pace = Pace(ledger, jobs)
        self.shown: list[str] | None = None
        self.at = 0.0
        self.status = Status(description, len(jobs))

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        self.update("")
        self.status.close()

    def show(self, running: Sequence[Job], left: Sequence[Job], places: int) -> None:
        """Say it again where something has changed, or after a while.

        running: this process's runs. left: what it would still begin. places: how many it runs at a time.
        """
        now = [job.name for job in running]
        if now != self.shown or time.monotonic() - self.at > REFRESH:
            unfinished = [job for job in left if self.ledger.result(job) is None]
            # Other processes on the ledger go on beside this one.
            of_others = sum(map(self.ledger.is_running, unfinished))
            seconds, unknown = self.pace.left([*running, *unfinished], places + of_others)
            told = f", about {duration(seconds)} left" if seconds >= 1 or unknown else ", nearly done"
            if unknown:
                some = unknown < len(running) + len(unfinished)
                told = f"{told}, unknown for {unknown} runs" if some else ", time left unknown"
            if self.deadline is not None and (unknown or time.monotonic() + seconds > self.deadline):
                told = f", no more begin in {duration(max(0.0, self.deadline - time.monotonic()))} (max_time)"
            if not running and of_others and of_others == len(unfinished):
                told += ", waiting for another process"
            self.update(told)
            self.shown, self.at = now, time.monotonic()

    def update(self, time_left: str) -> None:
        states = Counter(self.ledger.status(job) for job in self.jobs)
        others = "".join(f", {states[state]} {state}" for state in ("running", "failed") if states[state])
        self.status.describe(f"{self.description}: {states['done']}/{len(self.jobs)} done{others}{time_left}")
