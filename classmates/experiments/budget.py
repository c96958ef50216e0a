"""Equal budgets: the epochs at which each row costs as much as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from classmates.errors import UserError
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job

Budget = Literal["epochs", "passes", "steps", "time"]
PILOT_EPOCHS = 2
"""The epochs of a pilot, in each stage of its training; the last is measured: in the first, caches are still cold."""


def pilots(jobs: Sequence[Job]) -> list[Job]:
    """Make one short run for each row, model and data set, from which the cost of an epoch is read."""
    first = {place(job): job for job in reversed(jobs)}
    return [job.with_epochs(PILOT_EPOCHS * stages(job)) for job in reversed(first.values())]


def stages(job: Job) -> int:
    """Return in how many parts of equal length the job's method trains, as in generations."""
    return job.method.kind.training_stages(job.method.resolved())


def equalised(jobs: Sequence[Job], ledger: Ledger, budget: Budget, reference: str) -> list[Job]:
    """Return the jobs with epochs (rounded, 1 or more a stage) at which each costs what the reference does there.

    Args:
        jobs: with the epochs of the recipe, which stay the reference's.
        ledger: in which their pilots are done.
        budget: "passes" (training images seen), "steps" (of the optimiser) or "time" (seconds of training).
        reference: the row whose cost is everyone's.

    Raises:
        UserError: a pilot has failed.
    """
    epochs = {(job.model, job.data): job.epochs for job in jobs if job.row == reference}
    costs = {place(job): epoch_cost(ledger, job, budget) for job in pilots(jobs)}
    equal = []
    for job in jobs:
        where = (job.model, job.data)
        ratio = costs[reference, *where] / costs[place(job)]
        equal.append(job.with_epochs(max(stages(job), round(epochs[where] * ratio))))
    return equal


def epoch_cost(ledger: Ledger, pilot: Job, budget: Budget) -> float:
    """Return what an epoch of a pilot cost, the mean of the last ones of its stages.

    Raises:
        UserError: the pilot has not come to its end.
    """
    if ledger.result(pilot) is None:
        why = (ledger.failure(pilot) or {"error": "it is not finished"})["error"]
        raise UserError(f"--budget {budget}: the short run that measures an epoch of '{pilot.row}' failed: {why}")
    table = pd.read_csv(ledger.run_folder(pilot) / "metrics.csv")
    costs = {
        "steps": table["step"].diff(),
        "passes": table["seconds"] * table["images_per_second"],
        "time": table["seconds"],
    }
    return float(costs[budget].iloc[PILOT_EPOCHS - 1 :: PILOT_EPOCHS].mean())


def place(job: Job) -> tuple[str, str, str]:
    """Return what jobs of different seeds have in common: row, model and data."""
    return job.row, job.model, job.data
