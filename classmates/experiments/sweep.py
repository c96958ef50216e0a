"""``sweep``: the settings of one method by which the student does best on validation images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from classmates._csv import as_csv
from classmates._files import at_home, slug, write_text
from classmates._progress import note
from classmates._shown import Shown
from classmates.comparisons.improvement import BASELINE
from classmates.comparisons.recipe import Base, Recipe, read_seeds
from classmates.errors import UserError, check_choice
from classmates.experiments.called_for import with_model
from classmates.experiments.compare import flags
from classmates.experiments.given import name_of, settings_of
from classmates.experiments.layers import refuse_method
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import epoch_seconds
from classmates.experiments.plan import Job, jobs_of, short
from classmates.experiments.preview import Plan
from classmates.experiments.rows import row_of
from classmates.experiments.running import run_all
from classmates.experiments.space import draws, grid, require_trials
from classmates.experiments.workers import check_place, workers_on
from classmates.methods.spec import MethodSpec
from classmates.networks.building.build import check_model_name
from classmates.runs.record import RunRecord
from classmates.tasks.protocol import MetricFormat, ProtocolRecord
from classmates.training.config import Place

Search = Literal["grid", "random"]
OF_VALIDATION = ("val_fraction", "data_dir", "label", "on_bad_image")
"""Settings that say which validation images there are; ``train_size`` takes of the others alone."""


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """The result of a search.

    folder: where everything is. trials: a line each, best first: what was tried, ``val`` and ``val_std`` (the
    student's headline metric on validation images, mean and standard deviation over seeds),
    ``runs`` (how many were finished), ``trained`` (epochs) and ``status``. best: the settings of the first one.
    metric: how that headline is written.
    """

    folder: Path
    trials: pd.DataFrame
    best: Mapping[str, Any]
    metric: MetricFormat

    @property
    def headline(self) -> str:
        return f"{len(self.trials)} trials, the best in {self.folder / 'best.yaml'}"

    def __str__(self) -> str:
        shown = self.trials.copy()
        for name in ("val", "val_std"):
            shown[name] = shown[name].map(self.metric.text, na_action="ignore")
        return (
            f"{shown.to_string(index=False, na_rep='')}\n\n"
            "Chosen on validation images alone. A difference within the spread is none, and the best of many is "
            "also the luckiest: compare it with other seeds before you believe it.\n"
            f"The best settings: {self.folder / 'best.yaml'}\n"
            f"  classmates compare --recipe {self.folder / 'against_baseline.yaml'}"
        )


def sweep(
    method: str = "Baseline",
    model: str | None = None,
    data: str = "digits",
    *,
    space: Mapping[str, Any] | None = None,
    search: Search = "grid",
    trials: int = 20,
    seeds: int | Sequence[int] = 1,
    recipe: Base = "auto",
    train: Mapping[str, Any] | None = None,
    val_fraction: float = 0.1,
    out: str | Path | None = None,
    workers: int = 1,
    on: Place = "here",
    devices_per_run: int = 1,
    gpus_per_run: float = 1.0,
    dry_run: bool = False,
) -> Sweep | Plan:
    """Search settings of one method, and choose by the student's headline metric (accuracy) on validation images.

    What is compared is the value of the epoch that is kept (the last, if ``keep`` is not "best"), mean over seeds;
    test images have no part in the choice. Trials are runs in a ledger like those of ``compare``: the same command
    goes on where it stopped.

    Args:
        method: a method, a variant of it (MCL(peers=2)) or a YAML file of settings; in Python also a class or a
            partial of one.
        model: the model's name; the one that ``train`` chooses for the data if not given.
        data: name or folder of a data set.
        space: the settings and their values, such as --space.method.beta [0.01,0.1] or, for a random search,
            --space.lr 'loguniform(0.01, 0.2)' (also uniform and integers); none that changes the validation images.
            If not given, those of the method's own weights that are worth trying first, which a note says.
        search: "grid" tries every combination of the lists; "random" draws some.
        trials: how many are drawn.
        seeds: runs of each trial, by how many or which seeds.
        recipe: what all start from: "auto" (the one for the data), "common" (as CIFAR's papers train), "paper" (the
            method's own) or "none".
        train: settings of every trial, over the recipe's, such as --train.epochs 30.
        val_fraction: share of the training images to choose by, where the data have no validation images.
        out: the folder; sweeps/NAME if not given.
        workers: how many runs at a time, each in a process of its own; 0 makes them in this process.
        on: "here", or "ray": on a Ray cluster, where trials that fall behind are stopped early (ASHA).
        devices_per_run: on Ray: processes that train each run together, as ``compare`` has it.
        gpus_per_run: on Ray: GPUs of each run, or the share of one.
        dry_run: only say what would be run, and what that takes.

    Returns:
        The trials, best first, and the best settings; with dry_run the plan.

    Raises:
        UserError: anything that cannot work, before the first run starts; or if no trial came to its end.
    """
    check_choice("search", search, Search)
    check_place(on, workers, devices_per_run, gpus_per_run)
    check_choice("recipe", recipe, Base)
    space, train = settings_of("space", space), settings_of("train", train)
    data = name_of("data", data)
    if trials < 1:
        raise UserError(f"trials={trials}: at least 1 is needed")
    require_trials(f"trials={trials}", trials)
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction={val_fraction}: there must be validation images to choose by, such as 0.1")
    if "val_fraction" in train:
        raise UserError("--train.val_fraction: give it as --val_fraction, which every trial has")
    refuse_method(train, "--train", "choose what is searched with --method")
    if unequal := [name for name in space if name in OF_VALIDATION]:
        fix = "--val_fraction" if unequal[0] == "val_fraction" else f"--train.{unequal[0]}"
        raise UserError(
            f"--space.{unequal[0]}: trials would be judged on different validation images, so that their scores do "
            f"not compare: give all of them one value with {fix}"
        )
    label, row = row_of(method)
    space = space or usual_space(row, train, search)
    tried = grid(space) if search == "grid" else draws(space, trials)
    settings = {label_of(values): values for values in tried}
    if len(settings) < len(tried):
        note(f"{len(tried)} drawn, {len(settings)} of them different")
    plan = Recipe(
        title=f"{label}: {', '.join(space)}",
        base=recipe,
        models=() if model is None else (name_of("model", model),),
        data=(data,),
        seeds=read_seeds(seeds),
        rows=dict.fromkeys(settings, row),
    )
    plan = with_model(plan, train)
    (model,) = plan.models
    check_model_name(model)
    plan = replace(plan, models_settings={model: {**train, "rows": settings}})
    jobs = jobs_of(plan, {"val_fraction": val_fraction}, devices_per_run)
    ledger = Ledger(
        Path("sweeps") / "-".join(map(slug, (label, short(model), short(data)))) if out is None else at_home(out)
    )
    ledger.check_place(jobs)
    if dry_run:
        return Plan(ledger.folder, jobs, ledger, by_row=False)
    ledger.write_plan(plan, jobs)
    if on == "ray":
        from classmates.experiments.ray_workers import run_with_asha  # an optional extra

        run_with_asha(ledger, jobs, workers, devices_per_run, gpus_per_run)
    else:
        run_all(ledger, jobs, workers_on(on, ledger, workers, devices_per_run, gpus_per_run), "searching")
    return chosen(ledger, plan, jobs, settings)


def usual_space(row: Mapping[str, Any], train: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """Return what is searched of a row where nothing is named: what its method declares, and nobody has set.

    train: the settings that all trials have.

    Raises:
        UserError: the method declares nothing more, or values are to be drawn, for which it declares none.
    """
    spec = MethodSpec.of(row["method"])
    assert spec is not None  # of rows as the command line calls them there always is one
    about = getattr(spec.kind, "about", None)  # which methods of others may lack
    declared = {} if about is None else about.search
    named = [name for layer in (row, train) for name, _ in flags("given", layer) if ".method." in name]
    fixed = {*spec.options, *(name.rpartition(".")[2] for name in named)}
    values = {name: list(some) for name, some in declared.items() if name not in fixed}
    if not values or search == "random":
        why = "random search needs ranges" if values else f"{spec.name} has no weights of its own to try"
        raise UserError(f"space: {why}; give settings, such as --space.lr [0.01,0.1]")
    note(f"searching {', '.join(f'{name} {some}' for name, some in values.items())}; --space.NAME chooses what is")
    return {f"method.{name}": some for name, some in values.items()}


def label_of(values: Mapping[str, Any]) -> str:
    """Return ``lr=0.1, beta=0.025``: a trial by its values, without the settings' longer names."""
    return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in values.items())


def chosen(ledger: Ledger, plan: Recipe, jobs: Sequence[Job], settings: Mapping[str, Mapping[str, Any]]) -> Sweep:
    """Return the trials in order, and the best one's settings; read validation scores alone.

    Write trials.csv, best.yaml (the settings) and against_baseline.yaml (the comparison that says their worth).
    """
    lines = []
    protocols: list[ProtocolRecord] = []
    for trial, values in settings.items():
        own = [job for job in jobs if job.row == trial]
        records = [record for job in own if (record := ledger.result(job)) is not None]
        protocols += [record.protocol for record in records]
        scores = pd.Series([validation(record) for record in records], dtype=float)
        states = {ledger.status(job) for job in own}
        line = {**values, "val": scores.mean(), "val_std": scores.std(), "runs": len(scores)}
        line["trained"] = max(len(epoch_seconds(ledger, job)) for job in own)  # epochs
        lines.append({**line, "status": ", ".join(sorted(states)), "trial": trial})
    if not protocols:
        raise UserError(f"no trial came to its end; why is in {ledger.jobs} (*.failure.json, *.log)")
    protocol = protocols[0]
    order = [False, protocol.mode == "min"]  # of ascending: those with most runs first, then the best
    table = pd.DataFrame(lines).sort_values(["runs", "val"], ascending=order, kind="stable")
    trial = str(table["trial"].iloc[0])
    best = next(job for job in jobs if job.row == trial)
    table = table.drop(columns="trial")
    write_text(ledger.folder / "trials.csv", as_csv(table))
    recipe = against_baseline(plan, trial, best).plain()
    for name, content in (("best.yaml", dict(best.settings)), ("against_baseline.yaml", recipe)):
        write_text(ledger.folder / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return Sweep(ledger.folder, table, best.settings, protocol.main)


def against_baseline(plan: Recipe, trial: str, best: Job) -> Recipe:
    """Return the comparison of one trial, of which a run is given, with Baseline.

    Both have the same settings but for what was searched: those of the trial's row, and over them what was given for
    every trial. Where more was searched than the method's own options, Baseline has a second row with what was found,
    so that a gain from the learning rate is not taken for the method's. All train on all training images, unless
    validation images end a run or choose its epoch; and the seeds had no part in the choice.
    """
    (model,) = plan.models
    given = dict(plan.models_settings[model])
    searched, row = given.pop("rows")[trial], plan.rows[trial]
    own = {name: value for name, value in given.items() if is_of_method(name)}
    validates = best.settings["keep"] == "best" or best.settings["patience"] is not None
    images = {"val_fraction": best.settings["val_fraction"] if validates else 0.0, "test": True}
    rows = {BASELINE: {"method": {"class_path": "classmates.Baseline"}, **but_for_method(row)}, "best": row}
    of_rows = {"best": {**own, **searched}}
    found = but_for_method(searched)
    if found and best.method.name != BASELINE:
        rows[FAIR], of_rows[FAIR] = rows[BASELINE], found
    unused = max(plan.seeds) + 1
    return replace(
        plan,
        title=f"{plan.title} against {BASELINE}",
        rows=rows,
        models_settings={model: {**but_for_method(given), **images, "rows": of_rows}},
        seeds=tuple(range(unused, unused + 3)),
        reference=BASELINE,
    )


FAIR = f"{BASELINE} (settings of best)"


def is_of_method(name: str) -> bool:
    """Return whether a setting is an option of the method."""
    return name.partition(".")[0] == "method"


def but_for_method(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that neither name the method nor are options of it."""
    return {name: value for name, value in settings.items() if not is_of_method(name)}


def validation(record: RunRecord) -> float:
    """Return the student's headline on validation images, of the epoch whose weights it has."""
    assert record.validated is not None  # every trial has validation images
    return record.validated.scores["student"][record.protocol.headline].value
