"""The table of what answering early costs and saves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from classmates._machine import cpu_name
from classmates._text import aligned, filled, plural
from classmates.deployment.measuring import BATCH, Difference, Latency
from classmates.runs.predict_command import has_own_code, predict_command

LEAST = 0.05
"""The share of the time that is worth speaking of: repeated timings differ by about as much."""


@dataclass(frozen=True)
class Point:
    """The measures of one set of thresholds; a row of ``early_exit.csv``.

    Args:
        name: "student" for the plain network, "tuned" for the thresholds from validation, or the threshold of all.
        accuracy: on the test images.
        difference: of it to the student's, paired, with its 95 % interval.
        latency: of one image, in milliseconds, over test images one by one.
        cost: multiply-adds of a mean image, 1 the student's.
        shares: of the test images that each exit answers, then the mean of all; empty for the student.
        thresholds: one an exit; empty for the student.
    """

    name: str
    accuracy: float
    difference: Difference
    latency: Latency
    cost: float
    shares: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the point with one value a column."""
        one = {f"difference_{name}": value for name, value in self.difference._asdict().items()}
        two = {f"{name}_ms": value for name, value in self.latency._asdict().items()}
        lists = {"shares": " ".join(f"{share:.4f}" for share in self.shares)}
        lists["thresholds"] = " ".join(map(str, self.thresholds))
        return {"name": self.name, "accuracy": self.accuracy, **one, **two, "cost": self.cost, **lists}


@dataclass(frozen=True)
class EarlyExits:
    """What answering early costs and saves; as text, a table of 80 columns.

    points: the student's, that of the tuned thresholds, and the curve. count: test images. timed: those of them that
    ran one by one. pytorch: milliseconds for a batch of 32 images in PyTorch, of the student and of the network that
    answers early. threads: of every runtime. file: the ONNX file. run: the student's.
    """

    points: tuple[Point, ...]
    count: int
    timed: int
    pytorch: tuple[Latency, Latency]
    threads: int
    file: Path
    run: Path

    def frame(self) -> pd.DataFrame:
        """Return the table as ``early_exit.csv`` has it."""
        return pd.DataFrame([point.row() | {"threads": self.threads, "cpu": cpu_name()} for point in self.points])

    def __str__(self) -> str:
        student, how = self.points[0].latency.mean, ["--early_exit"] if self.saves else []
        heads = ["threshold", "top-1", "difference, points", "ms", "median", "p95", "time", "ops"]
        rows = [heads]
        for point in self.points:
            times = [f"{value:.3g}" for value in (point.latency.mean, point.latency.median, point.latency.p95)]
            shares = [f"{point.latency.mean / student:.0%}", f"{point.cost:.0%}"]
            difference = point.difference.in_points() if point.thresholds else ""
            rows.append([point.name, f"{point.accuracy:.2%}", difference, *times, *shares])
        return "\n".join(
            [
                *filled(
                    f"{self.count} test images; ms: one image in onnxruntime, mean of {self.timed} drawn from them, "
                    f"{plural(self.threads, 'thread')}, "
                    f"{cpu_name()}; time, ops: of the student's, measured and counted in multiply-adds"
                ),
                "",
                *aligned(rows),
                "",
                *filled(self.verdict),
                *filled(
                    f"in PyTorch, {BATCH} images at a time: {self.pytorch[0].median:.3g} ms the student, "
                    f"{self.pytorch[1].median:.3g} ms answering early"
                ),
                f"file: {self.file}",
                f"curve: {self.file.with_suffix('.csv')}, .svg, .png",
                f"next: {predict_command(self.run, *how, own_code=has_own_code(self.run))}",
            ]
        )

    @property
    def saved(self) -> float:
        """The share of the student's time that a mean image saves; below 0 where it takes longer."""
        student, tuned = self.points[:2]
        return 1 - tuned.latency.mean / student.latency.mean

    @property
    def saves(self) -> bool:
        """Whether that is worth speaking of."""
        return self.saved >= LEAST

    @property
    def verdict(self) -> str:
        """What the tuned thresholds save, and what that costs, in a sentence."""
        tuned, saved = self.points[1], self.saved
        difference = tuned.difference.in_points()
        answered = ", ".join(f"{share:.0%}" for share in tuned.shares)
        if not self.saves:
            effect = "saves no time to speak of" if saved > -LEAST else f"takes {-saved:.0%} longer"
            return (
                f"answering early {effect} on this machine, for a mean image, at {difference} points: deploy the "
                "student as it is"
            )
        return (
            f"answering early saves {saved:.0%} of the time of a mean image at {difference} points; the "
            f"exits, shallow to deep, and the mean of all answer {answered}"
        )
