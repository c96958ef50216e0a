"""The line on progress: what is done, what runs, and the time that is left with every process that helps."""

import time
from types import SimpleNamespace

import pytest

from classmates.experiments import running
from classmates.experiments.pace import Left
from classmates.experiments.running import Board

HOUR = 3600.0


class Ledger:
    """A ledger of runs of an hour each: ``others`` are run by other processes, ``done`` have ended."""

    def __init__(self, others=(), done=()):
        self.others, self.done = others, done

    def is_running(self, job):
        return job.name in self.others

    def result(self, job):
        return job.name if job.name in self.done else None

    def status(self, job):
        return "done" if self.result(job) else "running" if self.is_running(job) else "waiting"


class Pace:
    unknown = 0

    def __init__(self, ledger, jobs):
        pass

    def left(self, jobs, at_a_time):
        return Left(HOUR * (len(jobs) - self.unknown) / at_a_time, self.unknown)


@pytest.mark.parametrize(
    ("others", "done", "places", "hours"),
    [
        ("", "", 1, 6),  # alone
        ("", "", 2, 3),  # two runs at a time
        ("b", "", 1, 3),  # one other process, whose run is to be done as well
        ("bc", "", 1, 2),
        ("c", "b", 1, 2.5),  # what another process has ended takes no time any more
    ],
)
def test_the_time_left_counts_what_other_processes_do(monkeypatch, others, done, places, hours):
    monkeypatch.setattr(running, "Pace", Pace)
    said = []
    jobs = [SimpleNamespace(name=name) for name in "abcdef"]
    with Board(Ledger(others, done), jobs, "comparing") as board:
        monkeypatch.setattr(board.status, "describe", said.append)
        board.show(jobs[:1], jobs[1:], places)
    assert f"about {running.duration(hours * HOUR)} left" in said[0]


@pytest.mark.parametrize(
    ("others", "mine", "left", "seconds", "expected"),
    [
        ("", "a", "bc", 60, "no more begin in"),
        ("", "a", "bc", 10 * HOUR, "about 3 h 0 min left"),
        ("b", "a", "b", None, "about 1 h 0 min left"),
        ("b", "", "b", None, "waiting for another process"),
    ],
)
def test_what_ends_first_and_who_is_waited_for_is_said(monkeypatch, others, mine, left, seconds, expected):
    monkeypatch.setattr(running, "Pace", Pace)
    said = []
    deadline = None if seconds is None else time.monotonic() + seconds
    jobs = {name: SimpleNamespace(name=name) for name in {*mine, *left}}
    with Board(Ledger(others), [*jobs.values()], "comparing", deadline) as board:
        monkeypatch.setattr(board.status, "describe", said.append)
        board.show([jobs[name] for name in mine], [jobs[name] for name in left], 1)
    assert expected in said[0]
    assert ("waiting" in said[0]) == (not mine)


@pytest.mark.parametrize(
    ("unknown", "seconds", "expected"),
    [
        (0, None, ", about 3 h 0 min left"),
        (2, None, ", about 1 h 0 min left, unknown for 2 runs"),
        (2, 10 * HOUR, ", no more begin in 10 h 0 min (max_time)"),
        (3, None, ", time left unknown"),
    ],
)
def test_runs_of_which_nothing_is_known_are_counted(monkeypatch, unknown, seconds, expected):
    monkeypatch.setattr(running, "Pace", Pace)
    monkeypatch.setattr(Pace, "unknown", unknown)
    said = []
    jobs = [SimpleNamespace(name=name) for name in "abc"]
    with Board(Ledger(), jobs, "comparing", seconds and time.monotonic() + seconds) as board:
        monkeypatch.setattr(board.status, "describe", said.append)
        board.show(jobs[:1], jobs[1:], 1)
    assert said[0].endswith(expected)
