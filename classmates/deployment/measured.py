"""Formats written side by side, each run on the test images before it is kept, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from classmates._csv import as_csv
from classmates._files import output_file
from classmates._machine import cpu_name
from classmates._progress import bar
from classmates._text import aligned, filled
from classmates._threads import torch_threads
from classmates.deployment.formats import FORMATS, MEASURED, Format, Source
from classmates.deployment.measuring import (
    BATCH,
    Answers,
    Difference,
    Images,
    Latency,
    compared,
    latency,
    note_in_card,
    torch_runner,
)
from classmates.deployment.text import signed_points, threads_of
from classmates.errors import first_line, unknown
from classmates.runs.predict_command import has_own_code, predict_command
from classmates.runs.student import read_card
from classmates.runs.student_files import WEIGHTS
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
        lines += [
            "",
            *filled(
                f"milliseconds, median and 95th percentile, {threads_of(measured[0].threads or 1)}, {cpu_name()}"
            ),
            "",
        ]
        lines += aligned([TIMES, *(time_cells(row) for row in measured)])
        if any(row.threads is None for row in measured):
            lines += filled("* its runtime chooses the number of threads")
        for row in self.rows:
            if row.status != "kept":
                lines += ["", *filled(f"not kept: {row.format}: {row.status}")]
        return "\n".join([*lines, "", *filled(self.verdict), f"table: {self.table}", self.next])

    @property
    def verdict(self) -> str:
        """What the numbers say, in a sentence."""
        if not self.kept:
            return "nothing was kept: deploy the student as it is"
        student, kept = self.rows[0], (*self.kept, self.rows[0])  # of equals a format, which needs no PyTorch
        small, quick = min(kept, key=lambda row: row.size or 0), min(kept, key=lambda row: row.one_median or 0)
        both = {"smallest": small, "fastest for one image": quick}
        told = []
        for word, row in ({"smallest, and fastest for one image": small} if small is quick else both).items():
            if row is student:
                told.append(f"{word}: the student itself")
                continue
            told.append(
                f"{word}: {row.format} ({(row.size or 0) / 1e6:.2f} MB, {row.one_median:.3g} ms, "
                f"{signed_points(row.difference or 0)} points)"
            )
        pytorch = f"{(student.size or 0) / 1e6:.2f} MB, {student.one_median:.3g} ms"
        return f"{'; '.join(told)}; the student in PyTorch: {pytorch}"

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


def formats_of(given: Sequence[str]) -> list[str]:
    """Return the names of the formats that are meant, "all" being every one; UserError for an unknown name."""
    given = [given] if isinstance(given, str) else given
    for name in given:
        if name not in (*MEASURED, "all"):
            raise unknown("format", name, (*MEASURED, "all"))
    return [name for name in MEASURED if name in given or "all" in given]


@dataclass(frozen=True)
class Request:
    """What ``export_measured`` is asked for.

    source: the student to write. images: the run's. stem: what files are called, without their suffixes. folder:
    where they go. threads, most_lost: as in ``export``.
    """

    source: Source
    images: Images
    stem: str
    folder: Path
    threads: int
    most_lost: float

    def batch(self, form: Format) -> int:
        """Return how many images a file of a format takes at a time on the test images."""
        return BATCH if self.source.dynamic_batch and not form.single else 1


def export_measured(run: Path, request: Request, names: Sequence[str]) -> Exports:
    """Write several formats of a student, keep those that prove themselves, and note the measures in the card."""
    source, images = request.source, request.images
    network = torch_runner(images.protocol.predictor(source.network))
    with torch_threads(request.threads):
        answers, labels = images.answers(network, BATCH, STUDENT)
        timed = [images.timed(size) for size in (1, BATCH)]
        weights = run / WEIGHTS
        row = Row(STUDENT, file=weights.name, size=weights.stat().st_size, threads=request.threads)
        row = row.with_answers(compared(answers, answers, labels, images.protocol, images.groups))
        rows = [row.with_latency(latency(network, timed[0]), latency(network, timed[1]))]
        for name in (steps := bar(names, "exporting", "format")):
            steps.set_postfix_str(name)
            rows.append(export_one(name, request, answers, labels, timed))
    exports = Exports(tuple(rows), images.protocol.record, request.folder, run)
    with output_file(exports.table) as path:
        path.write_text(as_csv(exports.frame()), encoding="utf-8")
    found = {row.format: asdict(row) | {"cpu": cpu_name()} for row in exports.kept}
    note_in_card(run, read_card(run), found, images)
    return exports


def export_one(name: str, request: Request, student: Tensor, labels: Tensor, timed: Sequence[Tensor]) -> Row:
    """Write one format and measure it; the row says why where its files were not kept.

    student: its answers on the test images, [N, ...]. labels: [N]. timed: one image, and a batch.
    """
    form, protocol = FORMATS[name], request.images.protocol
    row = Row(name, threads=request.threads if form.sets_threads else None)
    files = [request.folder / f"{request.stem}{form.tag}{suffix}" for suffix in form.suffixes]
    try:
        if form.missing:
            raise NotKept(f"it needs pip install 'classmates[{form.extra}]'")
        with ExitStack() as stack:
            paths = [stack.enter_context(output_file(file)) for file in reversed(files)][::-1]
            with told():
                form.write(paths, request.source)
                runner = form.open(paths, request.source, request.threads)
                given, _ = request.images.answers(runner, request.batch(form), name)
            if not given.isfinite().all():
                raise NotKept("its answers are not finite numbers")
            row = replace(row, file=files[0].name, size=sum(path.stat().st_size for path in paths))
            row = row.with_answers(compared(given, student, labels, protocol, request.images.groups))
            check_loss(row, request.most_lost, protocol.metrics[protocol.headline])
            one, many = timed
            return row.with_latency(latency(runner, one), latency(runner, many) if request.batch(form) > 1 else None)
    except NotKept as error:
        earlier = f"; {files[0].name} is of an earlier export" if files[0].exists() else ""
        return replace(row, status=f"{error}{earlier}", file="")


class NotKept(Exception):
    """The reason why a file is not kept, in a sentence."""


@contextmanager
def told() -> Iterator[None]:
    """Raise NotKept for whatever exporters and runtimes raise within the block."""
    try:
        yield
    except Exception as error:  # they raise what they like
        raise NotKept(f"it cannot be written or run: {first_line(error)}") from error


def check_loss(row: Row, most_lost: float, how: MetricFormat) -> None:
    """Raise NotKept where the score is lower than the student's by more than ``most_lost``."""
    lost = -(row.difference or 0)
    if lost > most_lost:
        raise NotKept(
            f"its {how.name} is {how.text(row.score or 0)}, {100 * lost:.1f} points below the student's, more than "
            f"most_lost {100 * most_lost:g}"
        )
