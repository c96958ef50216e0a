"""Equal budgets, by what the last epoch of each row's short run has cost."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from classmates.errors import UserError
from classmates.experiments.budget import PILOT_EPOCHS, equalised, pilots
from classmates.methods.spec import MethodSpec

# The first epoch is slow; in the second an epoch of "Baseline" has 10 steps and 100 images, and takes 2 seconds.
METRICS = {
    "Baseline": [(10, 9.0, 11.0), (20, 2.0, 50.0)],
    "CSKD": [(20, 9.0, 22.0), (40, 5.0, 40.0)],
    "slow": [(900, 99.0, 0.1), (1800, 50.0, 400.0)],
    # Two generations: an epoch costs 10 steps, 100 images and 2 seconds in the first, twice as much in the second.
    "BornAgain": [(10, 9.0, 11.0), (20, 2.0, 50.0), (40, 9.0, 11.0), (60, 4.0, 50.0)],
}
STAGES = {"BornAgain": 2}


@dataclass(frozen=True)
class Job:
    row: str
    seed: int = 0
    epochs: int = 12
    model: str = "resnet8"
    data: str = "digits"

    @property
    def method(self):
        return MethodSpec.of("BornAgain" if self.row == "BornAgain" else "Baseline")

    def with_epochs(self, epochs):
        return replace(self, epochs=epochs)


@pytest.fixture
def ledger(tmp_path):
    """A ledger in which the short runs of all rows are done."""
    for row, epochs in METRICS.items():
        (tmp_path / row).mkdir()
        lines = [",".join(map(str, line)) for line in epochs]
        (tmp_path / row / "metrics.csv").write_text("\n".join(["step,seconds,images_per_second", *lines]))
    return SimpleNamespace(
        result=lambda job: job if job.epochs == PILOT_EPOCHS * STAGES.get(job.row, 1) else None,
        run_folder=lambda job: tmp_path / job.row,
        failure=lambda job: None,
    )


@pytest.mark.parametrize(
    ("budget", "epochs"), [("passes", (12, 6, 1, 8)), ("steps", (12, 6, 1, 8)), ("time", (12, 5, 1, 8))]
)
def test_every_row_costs_what_the_reference_does_but_trains_an_epoch_at_least(ledger, budget, epochs):
    jobs = [Job(row, seed) for seed in (0, 1) for row in METRICS]
    found = equalised(jobs, ledger, budget, "Baseline")
    assert [(job.row, job.seed) for job in found] == [(job.row, job.seed) for job in jobs]
    assert tuple(job.epochs for job in found) == epochs * 2


def test_one_short_run_of_each_row_is_enough(ledger):
    jobs = [Job(row, seed) for row in METRICS for seed in (0, 1)]
    assert pilots(jobs) == [Job(row, 0, PILOT_EPOCHS * STAGES.get(row, 1)) for row in METRICS]


def test_every_generation_has_an_epoch_at_least(ledger):
    jobs = [replace(job, epochs=1) for job in (Job("Baseline"), Job("BornAgain"))]
    assert [job.epochs for job in equalised(jobs, ledger, "time", "Baseline")] == [1, 2]


@pytest.mark.parametrize(
    ("failure", "why"), [(None, "it is not finished"), ({"error": "ValueError: no"}, "ValueError: no")]
)
def test_a_short_run_that_has_failed_is_named(ledger, failure, why):
    ledger.result, ledger.failure = (lambda job: None), (lambda job: failure)
    with pytest.raises(UserError, match=f"--budget time: the short run that measures .* of 'Baseline' failed: {why}"):
        equalised([Job("Baseline")], ledger, "time", "Baseline")
