"""``improve``: Baseline and the methods worth trying, the best on validation images, and its gain on the test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from filecmp import cmp
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from classmates._files import at_home, slug, whole_file
from classmates._progress import note, say
from classmates.comparisons.improvement import BASELINE, Improvement, Look, Tried
from classmates.comparisons.recipe import Recipe
from classmates.comparisons.statistics import image_difference
from classmates.data.fingerprints import digest
from classmates.data.splits import CHOOSING_FRACTION
from classmates.data.twins import notes_on_twins
from classmates.errors import UserError
from classmates.evaluation.evaluate import student_predictions
from classmates.experiments.called_for import called_for
from classmates.experiments.given import listed, name_of, settings_of
from classmates.experiments.identity import hash_of_test_images
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import seconds_per_epoch
from classmates.experiments.plan import Job, choose, jobs_of, short
from classmates.experiments.preview import Plan, failures
from classmates.experiments.records import state_of
from classmates.experiments.rows import row_of
from classmates.experiments.running import deadline_after, run_all
from classmates.experiments.sweep import validation
from classmates.experiments.workers import workers_on
from classmates.reporting.model_card import write_model_card
from classmates.reporting.page import duration
from classmates.runs.exits import EXITS
from classmates.runs.folder import note_places
from classmates.runs.predict_command import has_own_code
from classmates.runs.prototypes import student_hash
from classmates.runs.record import RunRecord
from classmates.runs.student import CARD, WEIGHTS
from classmates.tasks.classification import Classification
from classmates.training.recipes import RECOMMENDED

Records = Mapping[str, Mapping[int, RunRecord]]
"""Finished runs, by row and seed."""


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
        out: the folder; improved/NAME if not given.
        workers: how many runs at a time, each in a process of its own; 0 makes them in this process.
        dry_run: only say what would be run, and what that takes.

    Returns:
        The verdict, which is also in verdict.json and verdict.md; with dry_run the plan.

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
    verdict = judged(folder, ledger, jobs, max_time)
    verdict = replace(verdict, looks=looks)
    verdict.write()
    write_model_card(verdict.student)  # which holds the verdict
    return verdict


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


def judged(folder: Path, ledger: Ledger, jobs: Sequence[Job], max_time: str | None) -> Improvement:
    """Choose by validation images, look at the test images of Baseline and the chosen method, and copy the student.

    Raises:
        UserError: Baseline has failed, or there is no seed that every method has finished.
    """
    records = finished(ledger, jobs)
    seeds = shared_seeds(ledger, jobs, records, max_time)
    of_seeds = {row: [runs[seed] for seed in seeds] for row, runs in records.items() if runs.keys() >= set(seeds)}
    scores = {row: fmean(map(validation, runs)) for row, runs in of_seeds.items()}
    protocol = of_seeds[BASELINE][0].protocol
    chosen = max(scores, key=lambda row: scores[row])  # of equals the first, which is Baseline if it is one
    runs = {(job.row, job.seed): job for job in jobs}
    on_test = {row: outcomes_on_test(ledger, [runs[row, seed] for seed in seeds]) for row in {BASELINE, chosen}}
    outcomes, groups = {row: found for row, (found, _) in on_test.items()}, on_test[BASELINE][1]
    other = chosen != BASELINE
    verdict = Improvement(
        folder=folder,
        metric=protocol.main,
        counted=protocol.counted,
        images=outcomes[BASELINE].shape[1],
        test_hash=hash_of_test_images(jobs[0].settings),
        judged=digest(*(runs[row, seed].identity.key for row in sorted(on_test) for seed in seeds)),
        seeds=tuple(seeds),
        tried=tried(ledger, jobs, of_seeds, scores),
        chosen=chosen,
        baseline=float(outcomes[BASELINE].mean()),
        winner=float(outcomes[chosen].mean()) if other else None,
        difference=image_difference(outcomes[chosen], outcomes[BASELINE], groups) if other else None,
        groups=None if groups is None else len(np.unique(groups)),
        own_code=has_own_code(ledger.run_folder(runs[BASELINE, seeds[0]])),
        notes=notes_on(ledger, jobs, records),
    )
    seed = max(seeds, key=lambda one: validation(records[verdict.deployed][one]))
    copy_student(ledger.run_folder(runs[verdict.deployed, seed]), verdict.student)
    return verdict


def finished(ledger: Ledger, jobs: Sequence[Job]) -> Records:
    """Return the finished runs of every row, by seed."""
    records: dict[str, dict[int, RunRecord]] = {job.row: {} for job in jobs}
    for job in jobs:
        record = ledger.result(job)
        if record is not None:
            records[job.row][job.seed] = record
    return records


def shared_seeds(ledger: Ledger, jobs: Sequence[Job], records: Records, max_time: str | None) -> list[int]:
    """Return the seeds that every row has finished, leaving out rows that have nothing but failures.

    Raises:
        UserError: there is none, or Baseline is left out.
    """
    failed = {job.row: ledger.failure(job) for job in jobs if ledger.status(job) == "failed"}
    standing = {row: runs for row, runs in records.items() if runs or row not in failed}
    if BASELINE not in standing:
        why = (failed[BASELINE] or {}).get("error")
        raise UserError(f"{BASELINE} has failed, so that there is nothing to improve on: {why}")
    seeds = [
        seed for seed in dict.fromkeys(job.seed for job in jobs) if all(seed in runs for runs in standing.values())
    ]
    if not seeds:
        epochs = {job.row: job.epochs for job in jobs}
        known = seconds_per_epoch(ledger, jobs)
        takes = [f"{row} about {duration(seconds * epochs[row])}" for (row, _, _), seconds in known.items()]
        told = f"; a run takes: {', '.join(takes)}" if takes else ""
        limit = "" if max_time is None else f" within --max_time {max_time}"
        raise UserError(
            f"nothing can be chosen yet: there is no seed that every method has finished{limit}{told}. The same "
            "command goes on where this one stopped"
        )
    return seeds


def outcomes_on_test(ledger: Ledger, jobs: Sequence[Job]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the outcome of each run's student on each test image, [runs, images], and the images' groups, if any."""
    task, outcomes = Classification(), []
    for job in jobs:
        note_places(ledger.run_folder(job), job.settings)  # finished runs know where the images lay then
        how = {name: job.settings[name] for name in ("num_workers", "accelerator")}
        with say(notes=False):  # they were said at the start
            # Code of others that the run may name has just been run.
            found = student_predictions(ledger.run_folder(job), task=task, trust_code=True, **how)
        outcomes.append(task.protocol.outcomes(found.logits["student"], found.labels).numpy())
    return np.stack(outcomes), None if found.groups is None else found.groups.numpy()


def tried(
    ledger: Ledger, jobs: Sequence[Job], of_seeds: Mapping[str, Sequence[RunRecord]], scores: Mapping[str, float]
) -> tuple[Tried, ...]:
    """Return how every row did and what it cost."""
    seconds = {row: fmean(record.training.seconds for record in runs) for row, runs in of_seeds.items()}
    found = []
    for row in dict.fromkeys(job.row for job in jobs):
        states = [ledger.status(job) for job in jobs if job.row == row]
        cost = seconds[row] / seconds[BASELINE] if row in seconds else None
        status = ", ".join(sorted(set(states)))
        found.append(Tried(row, scores.get(row), cost, states.count("done"), len(states), status))
    return tuple(found)


def notes_on(ledger: Ledger, jobs: Sequence[Job], records: Records) -> list[str]:
    """Tell of images in two parts, which students are useless, which runs failed, and how many are left."""
    every = (note for record in records[BASELINE].values() for note in notes_on_twins(record.notes))
    twins = [*dict.fromkeys(every)]  # what is divided may differ by the seed
    useless = [
        f"WARNING: the student of {row}, seed {seed}, is no better than always giving the commonest answer"
        for row, runs in records.items()
        for seed, record in runs.items()
        if record.useless
    ]
    states = pd.DataFrame([state_of(ledger, job, ledger.status(job)) for job in jobs])
    left = int((~states["status"].isin(["done", "failed"])).sum())
    more = [f"{left} of {len(jobs)} runs are left to do; the same command goes on with them"] if left else []
    return [*(f"WARNING: {text}" for text in twins), *useless, *failures(states), *more]


def earlier_looks(folder: Path) -> list[Look]:
    """Return the looks at test images of every verdict that was made in the folder before."""
    path = folder / "verdict.json"
    if not path.is_file():
        return []
    try:
        return [Look(**look) for look in json.loads(path.read_text(encoding="utf-8"))["looks"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged, remove it: {error}") from error


RESULT = "result.json"
WRITTEN_OF_STUDENT = ("student*", "embedding*", "early_exit*", "exports.csv", EXITS)
"""What a student's folder may hold of it: its files, and what ``export`` writes there."""


def same_weights(run: Path, folder: Path) -> bool:
    """Return whether two folders have the same student, whatever their cards say of it."""
    try:
        return student_hash(run) == student_hash(folder)
    except UserError:  # that of the folder is damaged
        return False


def copy_student(run: Path, folder: Path) -> None:
    """Copy a run's student, settings and result, each file whole or not at all, in the place of an earlier one's.

    The same student stays as it is, with its temperature and its exports; those of another go.
    """
    there = all((folder / name).is_file() for name in (WEIGHTS, RESULT))
    if there and cmp(run / RESULT, folder / RESULT, shallow=False) and same_weights(run, folder):
        return
    exits = [EXITS] if (run / EXITS).exists() else []
    copied = (CARD, *exits, "config.yaml", WEIGHTS, RESULT)  # the record last: with it the student is whole
    for old in (path for pattern in WRITTEN_OF_STUDENT for path in folder.glob(pattern)):
        if old.is_file() and old.name not in copied:
            old.unlink()
            note(f"'{old}' is removed: it was of another student")
    for name in copied:
        with whole_file(folder / name) as path:
            shutil.copyfile(run / name, path)
