"""The verdict of ``improve``: the method chosen on validation images, and its gain on the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd

from classmates._progress import say
from classmates.comparisons.improvement import BASELINE, Improvement, Look, Tried
from classmates.comparisons.statistics import image_difference
from classmates.data.fingerprints import digest
from classmates.data.twins import notes_on_twins
from classmates.errors import UserError
from classmates.evaluation.collect import Predictions
from classmates.evaluation.evaluate import student_predictions
from classmates.experiments.identity import hash_of_test_images
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import seconds_per_epoch
from classmates.experiments.plan import Job
from classmates.experiments.preview import failures
from classmates.experiments.records import state_of
from classmates.experiments.sweep import validation
from classmates.reporting.page import duration
from classmates.runs.folder import note_places
from classmates.runs.predict_command import has_own_code
from classmates.runs.record import RunRecord
from classmates.tasks.classification import Classification

Records = Mapping[str, Mapping[int, RunRecord]]
"""Finished runs, by row and seed."""
TASK = Classification()


class Judged(NamedTuple):
    """The verdict, and the run whose student is to be deployed: its folder, record and predictions of test images."""

    verdict: Improvement
    run: Path
    record: RunRecord
    predictions: Predictions


class OnTest(NamedTuple):
    """The students of a row on the test images.

    outcomes: [runs, images]. predictions: of the one that is best on validation images.
    """

    outcomes: np.ndarray
    predictions: Predictions


def judged(folder: Path, ledger: Ledger, jobs: Sequence[Job], max_time: str | None, looks: Sequence[Look]) -> Judged:
    """Choose by validation images, and look at the test images of Baseline and the chosen method.

    looks: those that were made in the folder before.

    Raises:
        UserError: Baseline has failed, or there is no seed that every method has finished.
    """
    records = finished(ledger, jobs)
    seeds = shared_seeds(ledger, jobs, records, max_time)
    of_seeds = {row: [runs[seed] for seed in seeds] for row, runs in records.items() if runs.keys() >= set(seeds)}
    scores = {row: tuple(map(validation, runs)) for row, runs in of_seeds.items()}
    protocol = of_seeds[BASELINE][0].protocol
    chosen = max(scores, key=lambda row: fmean(scores[row]))  # of equals the first, which is Baseline if it is one
    runs = {(job.row, job.seed): job for job in jobs}
    best = {row: max(zip(scores[row], seeds, strict=True), key=lambda found: found[0])[1] for row in scores}
    looked = {
        row: on_test(ledger, [runs[row, seed] for seed in seeds], runs[row, best[row]]) for row in {BASELINE, chosen}
    }
    groups = looked[BASELINE].predictions.groups
    difference = None
    if chosen != BASELINE:
        groups_of = None if groups is None else groups.numpy()
        difference = image_difference(looked[chosen].outcomes, looked[BASELINE].outcomes, groups_of)
    verdict = Improvement(
        folder=folder,
        metric=protocol.main,
        counted=protocol.counted,
        images=looked[BASELINE].outcomes.shape[1],
        test_hash=hash_of_test_images(jobs[0].settings),
        judged=digest(*(runs[row, seed].identity.key for row in sorted(looked) for seed in seeds)),
        seeds=tuple(seeds),
        tried=tried(ledger, jobs, of_seeds, scores),
        chosen=chosen,
        chosen_by=validation_images(of_seeds[BASELINE][0]),
        on_test={row: looked[row].outcomes.mean(axis=1).tolist() for row in (BASELINE, chosen)},
        difference=difference,
        groups=None if groups is None else len(groups.unique()),
        own_code=has_own_code(ledger.run_folder(runs[BASELINE, seeds[0]])),
        notes=notes_on(ledger, jobs, records),
        looks=looks,
    )
    row = verdict.deployed
    run, record = ledger.run_folder(runs[row, best[row]]), records[row][best[row]]
    return Judged(replace(verdict, useless=record.useless), run, record, looked[row].predictions)


def validation_images(record: RunRecord) -> int:
    """Return how many validation images a run was judged by."""
    assert record.validation is not None  # improve trains none without
    count = record.validation.last.scores["student"][record.protocol.headline].count
    assert count is not None  # as for every classifier
    return count


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
        fix = "" if max_time is None else ", and a longer --max_time or fewer --methods come to an end sooner"
        raise UserError(
            f"nothing can be chosen yet: there is no seed that every method has finished{limit}{told}. The same "
            f"command goes on where this one stopped{fix}"
        )
    return seeds


def on_test(ledger: Ledger, jobs: Sequence[Job], best: Job) -> OnTest:
    """Return what the students of a row's runs make of the test images. best: of these, the best on validation."""
    outcomes, of_best = [], None
    for job in jobs:
        note_places(ledger.run_folder(job), job.settings)  # finished runs know where the images lay then
        how = {name: job.settings[name] for name in ("num_workers", "accelerator")}
        with say(notes=False):  # they were said at the start
            # Code of others that the run may name has just been run.
            found = student_predictions(ledger.run_folder(job), task=TASK, trust_code=True, **how)
        outcomes.append(TASK.protocol.outcomes(found.logits["student"], found.labels).numpy())
        of_best = found if job is best else of_best  # of the others the logits may be many
    assert of_best is not None  # it is one of the jobs
    return OnTest(np.stack(outcomes), of_best)


def tried(
    ledger: Ledger,
    jobs: Sequence[Job],
    of_seeds: Mapping[str, Sequence[RunRecord]],
    scores: Mapping[str, tuple[float, ...]],
) -> tuple[Tried, ...]:
    """Return how every row did and what it cost."""
    seconds = {row: fmean(record.training.seconds for record in runs) for row, runs in of_seeds.items()}
    found = []
    for row in dict.fromkeys(job.row for job in jobs):
        states = [ledger.status(job) for job in jobs if job.row == row]
        cost = seconds[row] / seconds[BASELINE] if row in seconds else None
        status = ", ".join(sorted(set(states)))
        found.append(Tried(row, scores.get(row, ()), cost, states.count("done"), len(states), status))
    return tuple(found)


def notes_on(ledger: Ledger, jobs: Sequence[Job], records: Records) -> list[str]:
    """Tell of images in two parts, which students are useless, which runs failed, and how many are left."""
    every = (note for record in records[BASELINE].values() for note in notes_on_twins(record.notes))
    twins = [*dict.fromkeys(every)]  # what is divided may differ by the seed
    states = pd.DataFrame([state_of(ledger, job, ledger.status(job)) for job in jobs])
    left = int((~states["status"].isin(["done", "failed"])).sum())
    more = [f"{left} of {len(jobs)} runs are left to do; the same command goes on with them"] if left else []
    return [*(f"WARNING: {text}" for text in [*twins, *useless_students(records)]), *failures(states), *more]


def useless_students(records: Records) -> list[str]:
    """Tell which of the students are useless: a sentence, or none."""
    useless = {row: [str(seed) for seed, record in runs.items() if record.useless] for row, runs in records.items()}
    named = [
        f"{row} (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})" for row, seeds in useless.items() if seeds
    ]
    count, of = sum(map(len, useless.values())), sum(map(len, records.values()))
    told = f"{count} of {of} students are no better than always giving the commonest answer: {', '.join(named)}"
    return [told] if named else []
