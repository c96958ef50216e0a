"""The runs of a comparison as a table: its columns, and the figures of a finished run in them."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd

from classmates.errors import UserError
from classmates.runs.record import RunRecord
from classmates.tasks.protocol import ProtocolRecord

DONE = "done"
"""The status of a run that tables and figures are made of."""
VERSIONS = ("classmates", "torch", "torchvision", "timm", "lightning", "python", "cpu", "accelerator", "commit")


def columns(protocol: ProtocolRecord | None) -> list[str]:
    """Return the columns of the table, in order; those of the student's further metrics where a protocol is known."""
    return [
        *("row", "method", "model", "data", "seed", "status", "failure", "folder", "protocol"),
        *("student", "student_interval", "peers", "peers_interval", "ensemble", "ensemble_interval"),
        *further(protocol),
        *("test_images", "train_images", "epochs", "steps", "seconds", "seconds_per_step", "image_passes"),
        *("peak_memory_mib", "parameters", "multiply_adds", "training_parameters"),
        *("precision", "kept", "finished", *VERSIONS),
    ]


def further(protocol: ProtocolRecord | None, metric: str | None = None) -> list[str]:
    """Return the names of the metrics beside ``metric``, which is the headline if not given."""
    return [] if protocol is None else [name for name in protocol.metrics if name != (metric or protocol.headline)]


def figures(record: RunRecord) -> dict[str, Any]:
    """Return the figures of a finished run by column.

    student, peers (mean of peers or exits) and ensemble hold the headline on the test images, with half the length of
    its 95 % interval; of the other metrics, by name, there are the student's.
    """
    student, training = record.test["student"], record.training
    return {
        "protocol": record.protocol,
        **_headline(record, "student", ["student"]),
        **_headline(record, "peers", [who for who in record.test if who.startswith(("peer", "exit"))]),
        **_headline(record, "ensemble", [who for who in record.test if who == "ensemble"]),
        **{name: student[name].value for name in further(record.protocol) if name in student},
        "test_images": record.headline().count,
        "train_images": record.train_images,
        "epochs": training.epochs,
        "steps": training.steps,
        "seconds": training.seconds,
        "seconds_per_step": training.seconds / training.steps,
        "image_passes": round(training.images_per_second * training.seconds),
        "peak_memory_mib": training.peak_memory_mib,
        "parameters": record.student.parameters,
        "multiply_adds": record.student.multiply_adds,
        "training_parameters": record.training_parameters,
        "precision": record.config.get("precision"),
        "kept": record.kept,
        "finished": record.finished.isoformat(),
        **{name: record.environment.get(name) for name in VERSIONS},
    }


def _headline(record: RunRecord, column: str, networks: list[str]) -> dict[str, float | None]:
    """Return the mean headline of networks and the mean half-width of its interval; None where there are none."""
    metrics = [record.headline(who) for who in networks]
    widths = [metric.half_width for metric in metrics if metric.half_width is not None]
    return {
        column: fmean(metric.value for metric in metrics) if metrics else None,
        f"{column}_interval": fmean(widths) if widths else None,
    }


def protocol_of(runs: pd.DataFrame) -> ProtocolRecord | None:
    """Return how the finished runs were judged; None where none has finished.

    Raises:
        UserError: they were judged in different ways, so that they cannot be in one table.
    """
    found = runs.loc[runs["status"] == DONE, "protocol"].dropna().tolist()
    names = sorted({f"{protocol.name} ({protocol.headline})" for protocol in found})
    if len(names) > 1:
        raise UserError(f"the runs were judged by different protocols, {' and '.join(names)}: compare them apart")
    settings = sorted({str(dict(protocol.settings)) for protocol in found})
    if len(settings) > 1:
        raise UserError(
            f"the runs were judged by {names[0]} with different settings, {' and '.join(settings)}: compare them "
            "apart"
        )
    return found[0] if found else None
