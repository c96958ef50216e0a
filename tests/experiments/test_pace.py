"""How long the rest takes: by the epochs so far, by what runs take around them, and by the costs of methods."""

from types import SimpleNamespace

import pytest

from classmates import CORSD, MCL, Baseline
from classmates.experiments import pace
from classmates.experiments.pace import Left, Pace, training_left


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


def job(name, kind=Baseline, epochs=10, model="resnet8", data="digits"):
    method = SimpleNamespace(kind=kind)
    return SimpleNamespace(name=name, row=kind.__name__, model=model, data=data, epochs=epochs, method=method)


def test_nothing_is_known_before_an_epoch(ledger, clock):
    jobs = [job("a"), job("b")]
    watched = Pace(ledger, jobs)
    watched.begin(jobs[0])
    clock.now = 50.0
    assert watched.left(jobs, 1) == training_left(ledger, jobs) == Left(0, 2)


def test_short_runs_are_counted_with_the_start_of_their_processes(ledger, clock):
    jobs = [job("a", epochs=2), job("b", epochs=2), job("c", epochs=2)]
    watched = Pace(ledger, jobs)
    watched.begin(jobs[0])
    clock.now = 11.0  # ten seconds passed before its first epoch
    ledger.epochs["a"] = [1.0]
    assert watched.left(jobs, 1).seconds == pytest.approx(1.0 + 2 * 12.0)
    clock.now, ledger.epochs["a"] = 15.0, [1.0, 1.0]  # and three after its last
    ledger.done.add("a")
    watched.end(jobs[0])
    assert watched.left(jobs[1:], 1).seconds == pytest.approx(2 * 15.0)
    assert watched.left(jobs[1:], 2).seconds == pytest.approx(15.0)
    assert watched.left(jobs[1:], 4).seconds == pytest.approx(15.0)  # no run is divided
    watched.begin(jobs[1])
    clock.now = 24.0
    assert watched.left(jobs[1:], 1).seconds == pytest.approx(6.0 + 15.0)
    clock.now = 100.0  # it is slower than the first was
    assert watched.left([jobs[1]], 1).seconds == pytest.approx(2 * 1.0)
    ledger.epochs["b"] = [40.0]
    assert watched.left([jobs[1]], 1).seconds == pytest.approx(1.0)
    ledger.epochs["b"] = [40.0, 40.0]
    assert watched.left([jobs[1]], 1).seconds == 0.0


def test_a_run_that_failed_says_nothing_of_what_others_take(ledger, clock):
    jobs = [job("a", epochs=2), job("b", epochs=2)]
    watched = Pace(ledger, jobs)
    ledger.epochs["b"] = [1.0]
    watched.begin(jobs[0])
    clock.now = 500.0
    watched.end(jobs[0])
    assert watched.left([jobs[1]], 1).seconds == pytest.approx(1.0)


def test_rows_that_have_not_begun_count_by_the_cost_of_their_method(ledger):
    jobs = [job("a"), job("b", MCL), job("c", CORSD)]
    ledger.epochs["b"] = [6.0, 6.0, 90.0]  # the median
    baseline = 6.0 / MCL.about.cost
    expected = 10 * baseline + 7 * 6.0 + 10 * baseline * CORSD.about.cost
    assert training_left(ledger, jobs) == (pytest.approx(expected), 0)
    own = job("d", type("Own", (), {}))
    assert pace.cost(own) == 1.0


@pytest.mark.parametrize("other", [{"model": "resnet56"}, {"data": "big"}])
def test_runs_of_one_model_and_data_tell_nothing_of_others(ledger, clock, other):
    jobs = [job("a"), job("b", MCL), job("c", **other), job("d", MCL, **other)]
    ledger.epochs["a"] = [2.0]
    watched, seconds = Pace(ledger, jobs), 9 * 2.0 + 10 * 2.0 * MCL.about.cost
    assert training_left(ledger, jobs) == watched.left(jobs, 1) == (pytest.approx(seconds), 2)
    ledger.epochs["d"] = [50.0 * MCL.about.cost]
    more = 10 * 50.0 + 9 * 50.0 * MCL.about.cost
    assert training_left(ledger, jobs) == watched.left(jobs, 1) == (pytest.approx(seconds + more), 0)
