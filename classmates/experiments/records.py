"""The runs of a comparison as one table, whatever state they are in."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job

VERSIONS = ("classmates", "torch", "torchvision", "timm", "lightning", "python", "cpu", "accelerator", "commit")


def read_runs(ledger: Ledger, planned: Sequence[Job]) -> pd.DataFrame:
    """One line a run: what it is, how it stands, and its figures where it is done.

    Planned runs come first, in the order of the plan. After them come finished ones that are not part of it, marked
    in ``status``: "other version" (the same settings and data, other code), "other data" or "other settings".

    Args:
        ledger: of a comparison.
        planned: its runs; the folder may hold those of other comparisons too.

    Returns:
        row, model, data, seed: its place. folder: of the run. status: "done", "running", "failed", "interrupted",
        "waiting" or as above. failure: why it failed. student, peers (mean of peers or exits), ensemble: test
        accuracy after the last epoch, from 0 to 1. nll, ece: of the student. test_images, train_images, epochs,
        steps, seconds (of training alone), seconds_per_step, image_passes (training images seen, in all epochs),
        peak_memory_mib, parameters and multiply_adds (of the student), training_parameters, finished (UTC); then
        versions and hardware.
    """
    lines = [line(ledger, job, ledger.status(job)) for job in planned]
    names = {job.name for job in planned}
    others = [job for job in ledger.every_job() if job.name not in names and ledger.result(job) is not None]
    lines += [line(ledger, job, difference(job, planned)) for job in others]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def difference(job: Job, planned: Sequence[Job]) -> str:
    """What of a run that is not planned is another than in the plan."""
    for other in planned:
        mine, theirs = job.identity, other.identity
        if job.row == other.row and mine.config == theirs.config:
            return "other version" if mine.data == theirs.data else "other data"
    return "other settings"


def line(ledger: Ledger, job: Job, status: str) -> dict[str, Any]:
    """One run's line; what is not known is missing."""
    place = {"row": job.row, "model": job.model, "data": job.data, "seed": job.seed}
    known = {**dict.fromkeys(COLUMNS), **place, "status": status, "method": method_name(job)}
    known["folder"] = str(ledger.run_folder(job))
    record = ledger.result(job)
    if record is None:
        failure = ledger.failure(job) if status == "failed" else None
        return known | ({"failure": failure["error"]} if failure else {})
    return known | figures(record)


def method_name(job: Job) -> str:
    return str(job.settings["method"]["class_path"]).rpartition(".")[2]


def figures(record: dict[str, Any]) -> dict[str, Any]:
    """The figures of a finished run."""
    test, training = record["test"], record["training"]
    others = [test[who]["top1"] for who in test if who.startswith(("peer", "exit"))]
    return {
        "student": test["student"]["top1"],
        "peers": fmean(others) if others else None,
        "ensemble": test["ensemble"]["top1"] if "ensemble" in test else None,
        "nll": test["student"]["nll"],
        "ece": test["student"]["ece"],
        "test_images": test["student"]["count"],
        "train_images": record["train_images"],
        "epochs": training["epochs"],
        "steps": training["steps"],
        "seconds": training["seconds"],
        "seconds_per_step": training["seconds"] / training["steps"],
        "image_passes": round(training["images_per_second"] * training["seconds"]),
        "peak_memory_mib": training["peak_memory_mib"],
        "parameters": record["student"]["parameters"],
        "multiply_adds": record["student"]["multiply_adds"],
        "training_parameters": record["training_parameters"],
        "finished": record["finished"],
        **{name: record["environment"].get(name) for name in VERSIONS},
    }


COLUMNS = (
    *("row", "method", "model", "data", "seed", "status", "failure", "folder"),
    *("student", "peers", "ensemble", "nll", "ece", "test_images", "train_images"),
    *("epochs", "steps", "seconds", "seconds_per_step", "image_passes", "peak_memory_mib"),
    *("parameters", "multiply_adds", "training_parameters", "finished", *VERSIONS),
)
