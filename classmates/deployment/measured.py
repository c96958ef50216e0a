"""Formats written side by side, each run on the test images before it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from classmates._csv import as_csv
from classmates._files import output_file
from classmates._machine import cpu_name
from classmates._progress import bar
from classmates._threads import torch_threads
from classmates.deployment.exports_table import STUDENT, Exports, Row
from classmates.deployment.formats import FORMATS, MEASURED, Format, Source
from classmates.deployment.measuring import BATCH, Images, compared, latency, note_in_card, torch_runner
from classmates.errors import first_line, unknown
from classmates.runs.student import read_card
from classmates.runs.student_files import WEIGHTS
from classmates.tasks.protocol import MetricFormat


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
