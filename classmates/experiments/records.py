"""The runs of a comparison as one table, whatever state they are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from classmates._names import in_unicode
from classmates.comparisons.runs import columns, figures
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job
from classmates.runs.spec import class_name


def read_runs(ledger: Ledger, planned: Sequence[Job]) -> pd.DataFrame:
    """Return one line a run: what it is, how it stands, and its figures where it is done.

    Planned runs come first, in the order of the plan. After them come finished ones that are not part of it, marked
    in ``status``: "other version" (the same settings and data, other code), "other data" or "other settings".

    Args:
        ledger: of a comparison.
        planned: its runs; the folder may hold those of other comparisons too.

    Returns:
        row, model, data, seed: its place. folder: of the run. status: "done", "running", "failed", "interrupted",
        "waiting" or as above. failure: why it failed. protocol: how it was judged. student, peers (mean of peers or
        exits), ensemble: its headline on the test images, shares from 0 to 1, and with _interval half the length of
        the headline's 95 % interval. Then the student's other metrics by name, and test_images, train_images,
        epochs, steps, seconds (of training alone), seconds_per_step, image_passes (training images seen, in all
        epochs), peak_memory_mib, parameters and multiply_adds (of the student), training_parameters, precision (of
        training), kept (the epoch that is scored, the "last" or the "best" on validation images), finished (UTC);
        then versions and hardware.
    """
    lines = [line_of(ledger, job, ledger.status(job)) for job in planned]
    names = {job.name for job in planned}
    others = [job for job in ledger.every_job() if job.name not in names and ledger.result(job) is not None]
    lines += [line_of(ledger, job, difference(job, planned)) for job in others]
    protocol = next((line["protocol"] for line in lines if "protocol" in line), None)
    return pd.DataFrame(lines, columns=columns(protocol))


def difference(job: Job, planned: Sequence[Job]) -> str:
    """Return what of a run that is not planned is another than in the plan, of the planned one most like it."""
    mine = job.identity
    data = {other.identity.data for other in planned if (other.row, other.identity.config) == (job.row, mine.config)}
    if not data:
        return "other settings"
    return "other version" if mine.data in data else "other data"


def line_of(ledger: Ledger, job: Job, status: str) -> dict[str, Any]:
    """Return one run's line; what is not known, as where the test images were not looked at, is missing."""
    record = ledger.result(job)
    return state_of(ledger, job, status) | (figures(record) if record is not None and record.test else {})


def state_of(ledger: Ledger, job: Job, status: str) -> dict[str, Any]:
    """Return the part of a run's line that does not depend on its result: its place, its status, why it failed."""
    known = {"row": job.row, "model": job.model, "data": job.data, "seed": job.seed, "method": method_name(job)}
    known |= {"status": status, "failure": None, "folder": ledger.run_folder(job)}
    failure = ledger.failure(job) if status == "failed" else None
    return known | ({"failure": in_unicode(failure["error"])} if failure else {})


def method_name(job: Job) -> str:
    """Return the name of a run's method without its module."""
    return class_name(job.settings["method"]["class_path"])
