"""From a recipe to its runs: rows, models, data sets and seeds, each run with all its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from classmates.comparisons.recipe import BASES, Recipe, load_recipe, read_seeds
from classmates.configuration.arguments import arguments_of
from classmates.configuration.settings import Settings
from classmates.errors import UserError, unknown
from classmates.experiments.identity import Identity, code_version, config_hash, data_fingerprint
from classmates.experiments.rows import DECIDED, base_settings, row_of
from classmates.methods.base import scaled_length
from classmates.methods.spec import MethodSpec
from classmates.networks.building.build import check_model_name
from classmates.runs.folder import class_path, plain_value
from classmates.training.train import train


@dataclass(frozen=True)
class Job:
    """One run that is wanted.

    row, model, data, seed: its place in the comparison. settings: every argument of ``train`` as a plain value.
    identity: what makes it this run and no other.
    """

    row: str
    model: str
    data: str
    seed: int
    settings: Mapping[str, Any]
    identity: Identity

    @property
    def name(self) -> str:
        """Of its folder: where it stands in the comparison, and what it is."""
        parts = (self.row, self.model, self.data)
        return "-".join([*map(slug, parts), str(self.seed), self.identity.key])

    @property
    def epochs(self) -> int:
        return int(self.settings["epochs"])

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Job:
        """A job from what ``plain`` gave."""
        return cls(**{**plain, "identity": Identity(**plain["identity"])})

    def with_epochs(self, epochs: int) -> Job:
        """The same run over another number of epochs; what the schedule and the method count in epochs follows."""
        factor = epochs / self.epochs
        schedule = in_proportion(self.settings["schedule_args"] or {}, LENGTHS, factor)
        method = MethodSpec(self.settings["method"]["class_path"], self.settings["method"]["init_args"]).scaled(
            factor
        )
        settings = {**self.settings, "epochs": epochs, "schedule_args": schedule or None, "method": method.plain()}
        config = config_hash(settings, method.kind)
        return replace(self, settings=settings, identity=replace(self.identity, config=config))


LENGTHS = ("milestones", "step_size", "T_max", "T_0", "total_iters", "total_steps")
"""Arguments of PyTorch's schedules that are numbers of epochs or steps."""


def in_proportion(values: Mapping[str, Any], lengths: Sequence[str], factor: float) -> dict[str, Any]:
    """The values with those that are lengths times the factor."""
    return {name: scaled_length(value, factor) if name in lengths else value for name, value in values.items()}


def slug(text: str) -> str:
    """What of a label, a path or a name can be part of a folder's name."""
    return re.sub(r"[^\w.]+", "-", Path(text).name if "/" in text else text).strip("-.")[:40]


def choose(
    recipe: str,
    methods: Sequence[str],
    models: Sequence[str],
    data: Sequence[str],
    seeds: int | Sequence[int] | None,
    reference: str | None,
) -> Recipe:
    """The recipe of this name, or its part that is asked for; "common" and "paper" are made of the methods.

    Raises:
        UserError: nothing to compare, an unknown recipe, row, method or model, or a reference that is not compared.
    """
    if recipe in BASES:
        if not methods:
            raise UserError("methods: there is nothing to compare; name some, such as --methods Baseline,MCL")
        chosen = Recipe(title=f"{', '.join(methods)}", base=recipe)
    else:
        chosen = load_recipe(recipe)
    rows = dict(chosen.rows) if not methods else {}
    for entry in methods:
        label, row = (entry, chosen.rows[entry]) if entry in chosen.rows else row_of(entry)
        if label in rows:
            raise UserError(f"methods: '{label}' comes twice; give a variant another name by a file, NAME.yaml")
        rows[label] = row
    wanted = replace(
        chosen,
        rows=rows,
        models=tuple(models) or tuple(chosen.models) or ("resnet8",),
        data=tuple(data) or tuple(chosen.data) or ("digits",),
        seeds=chosen.seeds if seeds is None else read_seeds(seeds),
        reference=choose_reference(rows, reference or chosen.reference, asked=reference is not None),
        published=chosen.published if set(data) <= set(chosen.data) else {},  # of the recipe's own data
    )
    for model in wanted.models:
        check_model_name(model)
    return wanted


def choose_reference(rows: Mapping[str, Any], reference: str | None, *, asked: bool) -> str:
    """The row that others are compared with: the one given, else Baseline, else the first one.

    Raises:
        UserError: the one given is not among the rows.
    """
    if reference is None:
        return "Baseline" if "Baseline" in rows else next(iter(rows))
    if reference not in rows:
        where = "" if asked else " of the recipe"
        fix = "it must be compared itself: add it to --methods, or name another with --reference"
        raise UserError(f"{unknown(f'reference{where}', reference, rows)}; {fix}")
    return reference


def jobs_of(recipe: Recipe, overrides: Mapping[str, Any]) -> list[Job]:
    """Every run of a recipe, the seeds outermost, so that each row has one result before any has two.

    Args:
        recipe: with rows, models, data and seeds.
        overrides: arguments of ``train`` that go over everything else.

    Raises:
        UserError: a setting that ``train`` does not take, of the wrong type, or that the comparison decides.
    """
    plans = []
    for name in recipe.data:
        for model in recipe.models:
            for row in recipe.rows:
                settings, method = settings_of(recipe, row, model, name, overrides)
                plans.append((row, model, name, settings, method, data_fingerprint(settings)))
    jobs = []
    for seed in recipe.seeds:
        for row, model, name, settings, method, fingerprint in plans:
            seeded = {**settings, "seed": seed}
            identity = Identity(config_hash(seeded, method), code_version(method), fingerprint)
            jobs.append(Job(row, model, name, seed, seeded, identity))
    return jobs


def settings_of(
    recipe: Recipe, row: str, model: str, data: str, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], type]:
    """(every argument of ``train`` as a plain value, the method's class) of a row's runs on a model and data."""
    settings = Settings("train", arguments_of(train))
    settings.add(
        {"progress": False, "method": recipe.rows[row].get("method", {})}, lambda name: f"key of row '{row}'"
    )
    settings.add(base_settings(settings.chosen("method"), recipe.base), str)
    for where, layer in layers(recipe, row, model, overrides):
        add_layer(settings, layer, where)
    settings.add({"model": model, "data": data}, str)
    typed = settings.typed()
    plain = {name: plain_value(value) for name, value in typed.items() if name not in ("out", "resume", "method")}
    method = settings.chosen("method")
    if (typed["devices"] not in ("auto", 1, "1")) or typed["num_nodes"] != 1:
        raise UserError(
            f"row '{row}' with model '{model}': a run of a comparison takes one device; several runs at a time "
            "(--workers, --on ray) use several"
        )
    return {**plain, "method": typed["method"].plain()}, method


def layers(
    recipe: Recipe, row: str, model: str, overrides: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where it is from, settings) over the base; what comes later goes over what came before."""
    own = dict(recipe.models_settings.get(model, {}))
    of_row = (own.pop("rows", None) or {}).get(row, {})
    yield "the recipe's settings", recipe.settings
    yield f"row '{row}'", recipe.rows[row]
    yield f"the settings of model '{model}'", own
    yield f"the settings of row '{row}' with model '{model}'", of_row
    yield "--train", overrides


def add_layer(settings: Settings, layer: Mapping[str, Any], where: str) -> None:
    """Adds settings; options of a method without its name are those of the method chosen so far."""
    for name in layer:
        if name in DECIDED:
            raise UserError(f"{where}: '{name}' is for the comparison to say: --models, --data, --seeds or --out")
    method = layer.get("method")
    if isinstance(method, Mapping) and "class_path" not in method:
        layer = {**layer, "method": {"class_path": class_path(settings.chosen("method")), **method}}
    settings.add(layer, lambda name: f"key '{name}' in {where}")
