"""How long the rest takes: by the epochs so far, by what runs take around them, and by the costs of methods."""

from types import SimpleNamespace

import pytest

from classmates import CORSD, MCL, Baseline
from classmates.experiments import pace
from classmates.experiments.pace import Pace, training_left


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(pace, "time", Clock())
    return pace.time


@pytest.fixture
def ledger(monkeypatch):
    """A ledger of runs whose epochs have taken so many seconds; ``done`` are those with a result."""
    made = SimpleNamespace(epochs={}, done=set())
    made.result = lambda job: job.name if job.name in made.done else None
    monkeypatch.setattr(pace, "epoch_seconds", lambda ledger, job: ledger.epochs.get(job.name, []))
    return made


def job(name, kind=Baseline, epochs=10):
    return SimpleNamespace(
        name=name, row=kind.__name__, model="resnet8", data="digits", epochs=epochs, method=SimpleNamespace(kind=kind)
    )


def test_nothing_is_known_before_an_epoch(ledger, clock):
    jobs = [job("a"), job("b")]
    watched = Pace(ledger, jobs)
    watched.begin(jobs[0])
    clock.now = 50.0
    assert watched.left(jobs, 1) is None
    assert training_left(ledger, jobs) is None


def test_short_runs_are_counted_with_the_start_of_their_processes(ledger, clock):
    jobs = [job("a", epochs=2), job("b", epochs=2), job("c", epochs=2)]
    watched = Pace(ledger, jobs)
    watched.begin(jobs[0])
    clock.now = 11.0  # ten seconds passed before its first epoch
    ledger.epochs["a"] = [1.0]
    assert watched.left(jobs, 1) == pytest.approx(1.0 + 2 * 12.0)
    clock.now, ledger.epochs["a"] = 15.0, [1.0, 1.0]  # and three after its last
    ledger.done.add("a")
    watched.end(jobs[0])
    assert watched.left(jobs[1:], 1) == pytest.approx(2 * 15.0)
    assert watched.left(jobs[1:], 2) == pytest.approx(15.0)
    assert watched.left(jobs[1:], 4) == pytest.approx(15.0)  # no run is divided
    watched.begin(jobs[1])
    clock.now = 24.0
    assert watched.left(jobs[1:], 1) == pytest.approx(6.0 + 15.0)
    clock.now = 100.0
    assert watched.left([jobs[1]], 1) == 0.0


def test_a_run_that_failed_says_nothing_of_what_others_take(ledger, clock):
    jobs = [job("a", epochs=2), job("b", epochs=2)]
    watched = Pace(ledger, jobs)
    ledger.epochs["b"] = [1.0]
    watched.begin(jobs[0])
    clock.now = 500.0
    watched.end(jobs[0])
    assert watched.left([jobs[1]], 1) == pytest.approx(1.0)


def test_rows_that_have_not_begun_count_by_the_cost_of_their_method(ledger):
    jobs = [job("a"), job("b", MCL), job("c", CORSD)]
    ledger.epochs["b"] = [6.0, 6.0, 90.0]  # the median
    baseline = 6.0 / MCL.about.cost
    assert training_left(ledger, jobs) == pytest.approx(10 * baseline + 7 * 6.0 + 10 * baseline * CORSD.about.cost)
    own = job("d", type("Own", (), {}))
    assert pace.cost(own) == 1.0
