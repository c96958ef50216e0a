"""``compare``: methods on models, data sets and seeds, as runs in a ledger, ending in tables and a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from classmates._files import at_home, slug
from classmates._progress import note
from classmates._shown import Shown
from classmates.comparisons.page import as_text, comparison_table, write_comparison
from classmates.comparisons.recipe import Recipe
from classmates.data.fingerprints import digest
from classmates.errors import UserError, check_choice
from classmates.experiments.budget import Budget, equalised, pilots
from classmates.experiments.called_for import with_model
from classmates.experiments.given import name_of, settings_of
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job, check_lengths, choose, jobs_of, short
from classmates.experiments.preview import Plan, failures
from classmates.experiments.records import read_runs
from classmates.experiments.rows import times_as_long
from classmates.experiments.running import run_all
from classmates.experiments.workers import check_place, workers_on
from classmates.training.config import Place


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """A finished comparison.

    folder: where everything is. recipe: what was compared. plan: its runs. runs: a line each, as ``read_runs`` has
    them.
    """

    folder: Path
    recipe: Recipe
    plan: Sequence[Job]
    runs: pd.DataFrame

    def __str__(self) -> str:
        planned, others = self.runs.iloc[: len(self.plan)], self.runs.iloc[len(self.plan) :]
        parts = [as_text(comparison_table(self.runs, self.recipe)), *failures(planned)]
        for status, count in Counter(others["status"]).items():
            parts.append(f"{count} finished runs of {status} lie in the folder too; they are in no table.")
        if (self.folder / "report.html").exists():
            parts.append(f"Tables and figures: {self.folder}\nReport, for a browser: {self.folder / 'report.html'}")
        return "\n\n".join(parts)


def compare(
    methods: Sequence[str] = (),
    models: Sequence[str] = (),
    data: Sequence[str] = (),
    *,
    seeds: int | Sequence[int] | None = None,
    recipe: str = "auto",
    train: Mapping[str, Any] | None = None,
    budget: Budget = "epochs",
    reference: str | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    on: Place = "here",
    devices_per_run: int = 1,
    gpus_per_run: float = 1.0,
    any_version: bool = False,
    dry_run: bool = False,
) -> Comparison | Plan:
    """Compare methods on models and data sets over several seeds; ends in tables, figures and a report.

    Every run is a folder as ``train`` leaves it, but for its own report, which takes longer than a short training:
    ``classmates report RUN`` writes it, or --train.report true for all. The same command given again goes on where it
    stopped, whatever stopped it, tries failed runs again and repeats nothing that is done. Several such commands
    share the work.

    Args:
        methods: what is compared: names (MCL), variants (MCL(peers=2)), or YAML files of settings, any of them also
            longer ('Baseline (3 x as long)') or on mixed images ('DML + CutMix'); with a recipe of its own rows,
            which of them. In Python also classes and partials of them.
        models: names of models, as train takes them; if not given the one that train chooses for the data, with
            another recipe than "auto" resnet8.
        data: names or folders of data sets; digits if not given.
        seeds: how many, or which ones ([0,1,2]); three if not given.
        recipe: "auto" (the one for the data, as train chooses it, the same for all rows), "common" (200 epochs as
            CIFAR's papers train), "paper" (each method by its own), "none" (train's fixed defaults), a recipe that
            comes with the package (papers/mcl-okd/table1) or a YAML file.
        train: settings for every run, over all others, such as --train.epochs 30 or --train.method.temperature 2
            where every row's method has a temperature; methods are for --methods to say.
        budget: what is the same for every row: "epochs" as the recipe has them; "passes" (training images seen),
            "steps" or "time": epochs at which a row costs what the reference does, by a run of two epochs.
        reference: the row that the others are compared with; Baseline or else the first if not given.
        out: the comparison's folder; comparisons/NAME if not given.
        workers: how many runs at a time, each in a process of its own; they share cores and GPUs. 0 makes them in
            this process, one by one; its peak memory is then that of all runs so far.
        on: "here", or "ray": on the Ray cluster that RAY_ADDRESS names, else a local one; the folder must be on a
            file system that all its machines see.
        devices_per_run: on Ray: processes that train each run together, over all machines; each has a GPU, or a core
            where there is none. As with --devices of train, every process sees its part of a batch.
        gpus_per_run: on Ray: GPUs of each run, or the share of one (0.25: four runs on each), where it has any.
        any_version: take finished runs of other versions of the code for what they are now.
        dry_run: only say what would be run, and what that takes.

    Returns:
        The table, every run and the folder; with dry_run the plan.

    Raises:
        UserError: anything that cannot work, before the first run starts. A run that fails stops no other.
    """
    check_choice("budget", budget, Budget)
    check_place(on, workers, devices_per_run, gpus_per_run)
    recipe, train = name_of("recipe", recipe), settings_of("train", train)
    chosen = with_model(choose(recipe, methods, models, data, seeds, reference), train)
    if budget != "epochs":
        refuse_longer_rows(chosen, budget)
    jobs = jobs_of(chosen, train, devices_per_run)
    if unseen := next((job.row for job in jobs if not job.settings["test"]), None):
        raise UserError(f"row '{unseen}': test is false, but rows are compared by their test images: leave it out")
    if len(chosen.rows) == 1 and not chosen.published:
        note("one row: there is nothing to compare it with; give several, such as --methods Baseline,MCL")
    ledger = Ledger(Path("comparisons") / default_name(recipe, chosen) if out is None else at_home(out))
    ledger.check_place(jobs)
    if budget != "epochs":
        short, measured = pilots(jobs), Ledger(ledger.folder / "pilots")
        if dry_run and not all(measured.result(job) for job in short):
            told = f"These runs measure an epoch of each row; the epochs of all others follow (budget {budget})."
            return Plan(measured.folder, short, measured, told)
        if not dry_run:
            measured.add(short)
            # Runs beside one another would slow each other down by what nobody knows.
            at_a_time = min(workers, 1) if budget == "time" else workers
            places = workers_on(on, measured, at_a_time, devices_per_run, gpus_per_run)
            run_all(measured, short, places, "measuring")
        jobs = equalised(jobs, measured, budget, chosen.reference or "")
        check_lengths(jobs, chosen)
    if any_version:
        jobs = [job if ledger.result(job) else ledger.same_elsewhere(job) or job for job in jobs]
    if dry_run:
        return Plan(ledger.folder, jobs, ledger)
    chosen = replace(chosen, asked=asked(budget, train))
    ledger.write_plan(chosen, jobs)
    run_all(ledger, jobs, workers_on(on, ledger, workers, devices_per_run, gpus_per_run), "comparing")
    runs = read_runs(ledger, jobs)
    write_comparison(ledger.folder, chosen.shown, runs)
    return Comparison(ledger.folder, chosen.shown, jobs, runs)


def refuse_longer_rows(recipe: Recipe, budget: Budget) -> None:
    """Raise UserError where a row is to be trained longer and yet to cost as much as the others."""
    for label, row in recipe.rows.items():
        if times_as_long(row, label) != 1:
            raise UserError(
                f"row '{label}' with --budget {budget}, which gives each row its own number of epochs: leave one out"
            )


def asked(budget: Budget, train: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a command asks for beyond its recipe, by flag."""
    return ({"--budget": budget} if budget != "epochs" else {}) | dict(flags("--train", train))


def flags(name: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings as the command line takes them: (--train.method.peers, 2)."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flags(f"{name}.{key}", value)
        else:
            yield f"{name}.{key}", value


def default_name(recipe: str, chosen: Recipe) -> str:
    """Return the name of the folder: the recipe's, or what is compared."""
    if "/" in recipe or "." in recipe:
        name = slug(recipe.removesuffix(".yaml").replace("/", "-"), longest=120)
        return name if len(name) <= 40 else f"{name[-33:].lstrip('-.')}-{digest(recipe)[:6]}"
    whole = "-".join([recipe, *map(slug, [*chosen.rows, *map(short, [*chosen.models, *chosen.data])])])
    return whole if len(whole) <= 120 else f"{whole[:113]}-{digest(whole)[:6]}"
