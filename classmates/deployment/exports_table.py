"""The table of formats that were written side by side: what was measured of each, and which file to deploy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from classmates._machine import cpu_name
from classmates._text import aligned, filled, plural
from classmates.deployment.formats import FORMATS
from classmates.deployment.measuring import BATCH, Answers, Difference, Latency
from classmates.deployment.text import signed_points
from classmates.runs.predict_command import has_own_code, predict_command
from classmates.tasks.protocol import MetricFormat, ProtocolRecord

STUDENT = "student"
"""The row of the student itself, in PyTorch, that the others are compared with."""


@dataclass(frozen=True)
class Row:
    """The measures of one format; a row of ``exports.csv``.

    Args:
        format: its name.
        status: "kept", or why it was not.
        file: the main one's name, in the folder of the table.
        size: bytes of all its files.
        score, low, high, count: the headline on the test images, with its 95 % interval.
        difference, difference_low, difference_high: of the score to the student's, paired.
        agreement: fraction of the images of which both say the same class; None of embeddings.
        one_median, one_p95: milliseconds for one image.
        many_median, many_p95: milliseconds for a batch of 32; None where the file takes single images only.
        threads: that it was allowed; None where its runtime does not say.
    """

    format: str
    status: str = "kept"
    file: str = ""
    size: int | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    agreement: float | None = None
    one_median: float | None = None
    one_p95: float | None = None
    many_median: float | None = None
    many_p95: float | None = None
    threads: int | None = None

    def with_answers(self, answers: Answers) -> Row:
        """Return the row with what was found on the test images."""
        score, (mean, low, high) = answers.score, answers.difference
        return replace(
            self,
            score=score.value,
            low=score.low,
            high=score.high,
            count=score.count,
            difference=mean,
            difference_low=low,
            difference_high=high,
            agreement=answers.agreement,
        )

    def with_latency(self, one: Latency, many: Latency | None) -> Row:
        """Return the row with times for one image and for a batch."""
        found = replace(self, one_median=one.median, one_p95=one.p95)
        return found if many is None else replace(found, many_median=many.median, many_p95=many.p95)


@dataclass(frozen=True)
class Exports:
    """The files that were written of a student and what was measured of each; as text, a table of 80 columns.

    rows: the student's first. protocol: how it is judged. folder: where the files are. run: the student's.
    """

    rows: tuple[Row, ...]
    protocol: ProtocolRecord
    folder: Path
    run: Path

    @property
    def table(self) -> Path:
        """The file of the table."""
        return self.folder / "exports.csv"

    @property
    def kept(self) -> tuple[Row, ...]:
        """The formats whose files were kept."""
        return tuple(row for row in self.rows[1:] if row.status == "kept")

    def frame(self) -> pd.DataFrame:
        """Return the table as ``exports.csv`` has it."""
        return pd.DataFrame([asdict(row) | {"cpu": cpu_name()} for row in self.rows])

    def __str__(self) -> str:
        measured = [row for row in self.rows if row.score is not None]
        count = f"{measured[0].count} test {self.protocol.counted}"
        lines = [f"{count}; differences to the student are paired, with 95 % intervals", ""]
        lines += aligned(
            [answer_heads(self.protocol.main), *(answer_cells(row, self.protocol.main) for row in measured)]
        )
        threads = plural(measured[0].threads or 1, "thread")
        lines += ["", *filled(f"milliseconds, median and 95th percentile, {threads}, {cpu_name()}"), ""]
        lines += aligned([TIMES, *(time_cells(row) for row in measured)])
        if any(row.threads is None for row in measured):
            lines += filled("* its runtime chooses the number of threads")
        for row in self.rows:
            if row.status != "kept":
                lines += ["", *filled(f"not kept: {row.format}: {row.status}")]
        return "\n".join([*lines, "", *filled(self.verdict), *self.deploy, f"table: {self.table}", self.next])

    @property
    def best(self) -> dict[str, Row]:
        """The rows whose files are worth deploying, by why; of equals a format, which needs no PyTorch."""
        rows = (*self.kept, self.rows[0])
        small, quick = min(rows, key=lambda row: row.size or 0), min(rows, key=lambda row: row.one_median or 0)
        both = {"smallest": small, "fastest for one image": quick}
        return {"smallest, and fastest for one image": small} if small is quick else both

    @property
    def verdict(self) -> str:
        """What the numbers say, in a sentence."""
        if not self.kept:
            return "nothing was kept: deploy the student as it is"
        student, told = self.rows[0], []
        for why, row in self.best.items():
            if row is student:
                told.append(f"{why}: the student itself")
                continue
            told.append(
                f"{why}: {row.format} ({(row.size or 0) / 1e6:.2f} MB, {row.one_median:.3g} ms, "
                f"{signed_points(row.difference or 0)} points)"
            )
        pytorch = f"{(student.size or 0) / 1e6:.2f} MB, {student.one_median:.3g} ms"
        return f"{'; '.join(told)}; the student in PyTorch: {pytorch}"

    @property
    def deploy(self) -> list[str]:
        """The lines that name the files of the verdict, with why where they are of two formats."""
        lines = []
        for why, row in self.best.items():
            folder = self.run if row is self.rows[0] else self.folder
            suffixes = [Path(row.file).suffix] if row is self.rows[0] else FORMATS[row.format].suffixes
            files = " and ".join(str((folder / row.file).with_suffix(suffix)) for suffix in suffixes)
            lines.append(f"deploy: {files} ({why})" if len(self.best) > 1 else f"deploy: {files}")
        return lines

    @property
    def next(self) -> str:
        """The command that goes on."""
        support = [] if self.protocol.judged == "logits" else ["--support FOLDER"]
        return f"next: {predict_command(self.run, *support, own_code=has_own_code(self.run))}"


TIMES = ["", "1 image", "p95", f"{BATCH} images", "p95", "images/s"]


def answer_heads(how: MetricFormat) -> list[str]:
    """Return the heads of the table of answers."""
    return ["", "MB", how.title, "95 % interval", "difference, points", "agrees"]


def answer_cells(row: Row, how: MetricFormat) -> list[str]:
    """Return the cells of a row in the table of answers."""
    assert row.score is not None
    interval = "" if row.low is None else f"{how.scale * row.low:.2f}-{how.scale * (row.high or 0):.2f}"
    difference = ""
    if row.format != STUDENT:
        difference = Difference(row.difference or 0, row.difference_low, row.difference_high).in_points()
    agrees = "" if row.agreement is None or row.format == STUDENT else f"{row.agreement:.2%}"
    return [row.format, f"{(row.size or 0) / 1e6:.2f}", how.text(row.score), interval, difference, agrees]


def time_cells(row: Row) -> list[str]:
    """Return the cells of a row in the table of times."""
    times = (row.one_median, row.one_p95, row.many_median, row.many_p95)
    per_second = "-" if row.many_median is None else f"{1000 * BATCH / row.many_median:,.0f}"
    name = row.format if row.threads is not None else f"{row.format} *"
    return [name, *("-" if time is None else f"{time:.3g}" for time in times), per_second]
