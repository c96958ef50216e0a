"""``improve``: Baseline and the methods worth trying, the best on validation images, and its gain on the test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from classmates._files import at_home, slug
from classmates._names import in_unicode
from classmates._progress import note
from classmates.comparisons.improvement import BASELINE, Improvement, Look
from classmates.comparisons.improvement_page import write_improvement_page
from classmates.comparisons.recipe import Recipe
from classmates.data.splits import CHOOSING_FRACTION
from classmates.errors import UserError, first_line
from classmates.evaluation.by_image import pictured
from classmates.experiments.called_for import called_for
from classmates.experiments.given import listed, name_of, settings_of
from classmates.experiments.judging import TASK, Judged, judged
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import choose, jobs_of, short
from classmates.experiments.preview import Plan
from classmates.experiments.rows import row_of
from classmates.experiments.running import deadline_after, run_all
from classmates.experiments.workers import workers_on
from classmates.reporting.model_card import write_model_card
from classmates.runs.copying import copy_student
from classmates.runs.reading import Evaluation
from classmates.runs.student import read_card
from classmates.tasks.protocol import Scores
from classmates.training.recipes import RECOMMENDED


def improve(
    data: str,
    model: str | None = None,
    *,
    methods: Sequence[str] = (),
    seeds: int | Sequence[int] = 3,
    max_time: str | None = None,
    val_fraction: float = CHOOSING_FRACTION,
    train: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    dry_run: bool = False,
) -> Improvement | Plan:
    """Train a network plainly and with the methods worth trying, and say whether one of them makes it better.

    The method is chosen on validation images. Then the test images are looked at once, for Baseline and that method
    alone, and the better student is put into the folder "student". Finished runs are kept: the same command goes on
    where it stopped.

    Args:
        data: name or folder of a data set, as train takes it.
        model: the model's name; the one for the data if not given.
        methods: what is tried beside Baseline: names (MCL), variants (MCL(peers=2)) or YAML files of settings, any of
            them also longer ('Baseline (3 x as long)') or on mixed images (CutMix, 'DML + CutMix'); what is
            recommended for the data if not given.
        seeds: runs of each method, by how many or which seeds.
        max_time: begin no run after this time ("2h", "1h30m", DD:HH:MM:SS); those that run come to their end. One
            seed of each method is needed.
        val_fraction: share of the training images to choose by, where the data have no validation images.
        train: settings of every run, such as --train.epochs 30.
        out: the folder; improved/DATA-MODEL if not given.
        workers: how many runs at a time, each in a process of its own; 0 makes them in this process.
        dry_run: only say what would be run, and what that takes.

    Returns:
        The verdict, which is also in report.html, verdict.md and verdict.json; with dry_run the plan.

    Raises:
        UserError: anything that cannot work, before the first run starts; Baseline has failed; or no seed of every
            method is finished in time.
    """
    deadline = None if max_time is None else deadline_after(max_time)
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction={val_fraction}: there must be validation images to choose by, such as 0.2")
    if workers < 0:
        raise UserError(f"workers={workers}: give 1 or more, or 0 for runs in this process")
    data, train, methods = name_of("data", data), settings_of("train", train), listed(methods)
    model = None if model is None else name_of("model", model)
    if BASELINE in (row_of(method)[0] for method in methods):
        raise UserError(
            f"methods: {BASELINE} is always tried, so that there is something to improve on: leave it out"
        )
    if "task" in train:
        raise UserError(
            "--train.task: improve judges classifiers; `classmates compare --train.task` compares methods for others"
        )
    for name in {"val_fraction", "test"} & train.keys():
        raise UserError(f"--train.{name}: every run has the same --val_fraction, and none looks at the test images")
    given = {**train, "val_fraction": val_fraction, "test": False}
    plan = planned(data, model, methods, seeds, given)
    jobs = jobs_of(plan, given)
    name = "-".join([slug(short(data)), slug(short(plan.models[0]))])
    folder = Path("improved") / name if out is None else at_home(out)
    ledger = Ledger(folder)
    ledger.check_place(jobs)
    looks = earlier_looks(folder)
    if dry_run:
        return Plan(ledger.folder, jobs, ledger)
    ledger.write_plan(plan, jobs)
    run_all(ledger, jobs, workers_on("here", ledger, workers, 1, 1.0), "improving", deadline=deadline)
    found = judged(folder, ledger, jobs, max_time, looks)
    copy_student(found.run, found.verdict.student)
    found.verdict.write()  # the look at the test images is on record, whatever becomes of the page
    write_page(found)
    found.verdict.write()
    write_model_card(found.verdict.student)  # which holds the verdict
    return found.verdict


def planned(
    data: str, model: str | None, methods: Sequence[str], seeds: int | Sequence[int], given: Mapping[str, Any]
) -> Recipe:
    """Return what is to be run; what is not given is chosen by train's recipe for the data."""
    wanted = choose("auto", [BASELINE, *methods], [model] if model else [], [data], seeds, BASELINE)
    if model is None or not methods:
        found = called_for(wanted, data, given, model)
        for text in found.notes:
            note(text)
        rows = [BASELINE, *(methods or RECOMMENDED.get(found.recipe, RECOMMENDED["small-images"]))]
        wanted = choose("auto", rows, [found.model], [data], seeds, BASELINE)
    return replace(wanted, settings={"loggers": []})


def earlier_looks(folder: Path) -> list[Look]:
    """Return the looks at test images of every verdict that was made in the folder before."""
    path = folder / "verdict.json"
    if not path.is_file():
        return []
    try:
        return [Look(**look) for look in json.loads(path.read_text(encoding="utf-8"))["looks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged, remove it: {error}") from error


def write_page(found: Judged) -> None:
    """Write the page of a verdict; where that fails, say so, and leave none of an earlier one: the verdict stands."""
    try:
        write_improvement_page(found.verdict, found.record, *answers_of(found))
    except Exception as error:
        with suppress(OSError):
            found.verdict.page.unlink(missing_ok=True)
        note(f"the report could not be written ({first_line(error)}); the same command tries again")


def answers_of(found: Judged) -> tuple[Evaluation, Scores]:
    """Return the answers of the student to deploy on the test images, with pictures of some, and its scores there."""
    logits, labels, split = found.predictions.logits["student"], found.predictions.labels, found.predictions.split
    assert split is not None  # these images have just been predicted
    shown = pictured(logits, split, TASK.protocol, read_card(found.run))
    evaluation = Evaluation(
        labels=labels.numpy(),
        class_names=[*map(in_unicode, split.class_names)],
        logits=logits.numpy(),
        wrong_images=shown.images,
        wrong_rows=shown.rows,
        features=[],
        feature_labels=labels[:0].numpy(),
        more={} if shown.files is None else {"wrong_files": np.array(shown.files, dtype=str)},
    )
    return evaluation, TASK.protocol.score(logits, labels, split.groups)
