"""The runs of a recipe: rows, models, data sets and seeds, each run with all its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from classmates._files import slug
from classmates._names import in_unicode
from classmates._progress import note, say
from classmates.comparisons.recipe import Base, Recipe, load_recipe, read_seeds
from classmates.configuration.arguments import arguments_of
from classmates.configuration.settings import Settings
from classmates.errors import UserError, unknown
from classmates.experiments.checking import Trial, check_trials
from classmates.experiments.given import listed, name_of, names_of
from classmates.experiments.identity import Identity, code_version, config_hash, data_fingerprint
from classmates.experiments.layers import typed_settings
from classmates.experiments.lengths import at_length
from classmates.experiments.rows import LONGER, row_of, times_as_long
from classmates.methods.spec import MethodSpec
from classmates.networks.building.build import check_model_name
from classmates.training.config import RunConfig, TrainConfig, describe_method
from classmates.training.train import train


@dataclass(frozen=True)
class Job:
    """A run that is wanted.

    row, model, data, seed: its place in the comparison, as tables name it. settings: every argument of ``train`` as a
    plain value. identity: what makes it this run and no other. given_name: of its folder, where an earlier version
    chose it.
    """

    row: str
    model: str
    data: str
    seed: int
    settings: Mapping[str, Any]
    identity: Identity
    given_name: str | None = None

    @property
    def name(self) -> str:
        """The name of its folder: its place in the comparison, and the key of its identity."""
        if self.given_name is not None:
            return self.given_name
        parts = (slug(self.row), slug(short(self.model)), slug(short(self.data)))
        return "-".join([*parts, str(self.seed), self.identity.key])

    @property
    def epochs(self) -> int:
        return int(self.settings["epochs"])

    @property
    def method(self) -> MethodSpec:
        spec = MethodSpec.of(self.settings["method"])
        assert spec is not None  # settings name a class
        return spec

    @property
    def typed(self) -> dict[str, Any]:
        """The settings as ``train`` takes them, but for callbacks."""
        settings = Settings("train", arguments_of(train))
        settings.add(self.settings, str)
        return settings.typed()

    def plain(self) -> dict[str, Any]:
        """Return the job as YAML can hold it."""
        return {name: value for name, value in asdict(self).items() if name != "given_name"}

    @classmethod
    def read(cls, plain: Mapping[str, Any], name: str | None = None) -> Job:
        """Make a job from what ``plain`` gave and from the name that its file has."""
        job = cls(**{**plain, "identity": Identity(**plain["identity"])})
        return job if name in (None, job.name) else replace(job, given_name=name)

    def with_epochs(self, epochs: int) -> Job:
        """Return the same run over another number of epochs; what schedule and method count in epochs follows."""
        settings = at_length(self.settings, epochs)
        settings["method"] = settings["method"].plain()
        identity = replace(self.identity, config=config_hash(settings))
        return replace(self, settings=settings, identity=identity, given_name=None)


def short(name: str) -> str:
    """Return the last part of a path or of the name of a data set of the Hub; any other name as it is."""
    if name.strip("./") == "":  # ".", "..", "./": the folder's own name
        return Path(name).resolve().name
    return Path(name).name if "/" in name else name


def choose(
    recipe: str | Path,
    methods: Sequence[Any] | str,
    models: Sequence[str] | str,
    data: Sequence[str] | str,
    seeds: int | Sequence[int] | None,
    reference: Any,
) -> Recipe:
    """Return the recipe of this name, or its part that is asked for; "common" and "paper" are made of the methods.

    Without models it names none where train's recipe for the data decides: ``called_for`` does. Methods, and the
    reference, may be whatever ``row_of`` takes.

    Raises:
        UserError: nothing to compare, an unknown recipe, row, method or model, or a reference that is not compared.
    """
    recipe, methods = name_of("recipe", recipe), listed(methods)
    models, data = names_of("models", models), names_of("data", data)
    if not isinstance(reference, str | None):
        reference = row_of(reference)[0]
    if recipe in get_args(Base):
        if not methods:
            raise UserError("methods: there is nothing to compare; name some, such as --methods Baseline,MCL")
        chosen = Recipe(base=cast(Base, recipe))
    else:
        chosen = load_recipe(recipe)
    rows = dict(chosen.rows) if not methods else {}
    for entry in methods:
        of_recipe = isinstance(entry, str) and entry in chosen.rows
        label, row = (entry, chosen.rows[entry]) if of_recipe else row_of(entry)
        if label in rows:
            raise UserError(f"methods: '{label}' comes twice; give a variant another name by a file, NAME.yaml")
        rows[label] = chosen.rows.get(label, row)
    wanted = replace(
        chosen,
        title=chosen.title or ", ".join(rows),
        rows=rows,
        models=tuple(models) or tuple(chosen.models) or (() if chosen.base == "auto" else ("resnet8",)),
        data=tuple(data) or tuple(chosen.data) or ("digits",),
        seeds=chosen.seeds if seeds is None else read_seeds(seeds),
        reference=choose_reference(rows, reference or chosen.reference, asked=reference is not None),
    )
    if not set(wanted.data) <= set(chosen.data):  # published are results on the recipe's own data
        wanted = replace(wanted, published={})
    for model in chosen.models_settings:
        if model not in {*chosen.models, *wanted.models}:
            raise unknown("model among models_settings", model, [*chosen.models, *wanted.models])
    for model in wanted.models:
        check_model_name(model)
        if chosen.models_settings and model not in {*chosen.models, *chosen.models_settings}:
            known = ", ".join(chosen.models_settings)
            note(f"model {model}: the recipe has settings for {known} alone; this one's runs are without them")
    for what, names in {"models": wanted.models, "data": wanted.data}.items():
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"{what}: '{twice[0]}' comes twice: name it once")
    return wanted


def choose_reference(rows: Mapping[str, Any], reference: str | None, *, asked: bool) -> str:
    """Return the row that others are compared with: the one given, else Baseline, else the first one.

    Raises:
        UserError: the one given is not among the rows.
    """
    if reference is None:
        return "Baseline" if "Baseline" in rows else next(iter(rows))
    if asked and reference not in rows:
        reference = LONGER.sub(r"\g<entry> (\g<times> × as long)", reference)
    if reference not in rows:
        where = "" if asked else " of the recipe"
        fix = "(it must be compared itself: add it to --methods, or name another with --reference)"
        raise UserError(f"{unknown(f'reference{where}', reference, rows)} {fix}")
    return reference


def jobs_of(recipe: Recipe, overrides: Mapping[str, Any], devices: int = 1) -> list[Job]:
    """List every run of a recipe, the seeds outermost, so that each row has one result before any has two.

    Every method is built once for its model and data, so that what cannot work is told before the first run.

    Args:
        recipe: with rows, models, data and seeds.
        overrides: arguments of ``train`` that go over everything else.
        devices: of each run, in a process each.

    Raises:
        UserError: a setting that ``train`` does not take, of the wrong type, or that the comparison decides; or rows
            that cannot work, with the reasons.
    """
    several = {"devices": devices, "strategy": "ddp"} if devices > 1 else {}
    decided = {**several, "seed": recipe.seeds[0]}
    longer = {row: times_as_long(settings, row) for row, settings in recipe.rows.items()}
    trials = [
        trial(typed_settings(recipe, row, model, data, overrides) | decided, row, model, data, times)
        for data in recipe.data
        for model in recipe.models
        for row, times in longer.items()
    ]
    fingerprints: dict[str, str] = {}  # of this plan alone: files may have changed since another of this session
    plans = []
    for tried, config in zip(trials, check_trials(trials, recipe), strict=True):
        settings = plain_settings(config)
        plans.append((tried, settings, code_version(settings), data_fingerprint(settings, fingerprints)))
    jobs = []
    for seed in recipe.seeds:
        for tried, settings, code, data in plans:
            seeded = {**settings, "seed": seed}
            identity = Identity(config_hash(seeded), code, data)
            jobs.append(Job(tried.row, in_unicode(tried.model), in_unicode(tried.data), seed, seeded, identity))
    return jobs


def check_lengths(jobs: Sequence[Job], recipe: Recipe) -> None:
    """Build the method of every row once more, for the epochs that a budget has given its runs.

    Raises:
        UserError: rows that cannot work, with the reasons.
    """
    first = {(job.row, job.model, job.data): job for job in reversed(jobs)}
    with say(notes=False):  # they were said at the recipe's epochs
        check_trials([trial(job.typed, *place) for place, job in reversed(first.items())], recipe)


def trial(typed: Mapping[str, Any], row: str, model: str, data: str, times: float = 1) -> Trial:
    """Return what is tried of a row; UserError for values that cannot work with any data."""
    try:
        return Trial(row, model, data, TrainConfig(**typed, callbacks=()), times)
    except UserError as error:
        raise UserError(f"row '{row}' with model '{model}': {error}") from error


def plain_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a run, but for its folder, as plain values."""
    described = describe_method(config.method)
    assert described is not None  # settings name a class
    return {name: value for name, value in config.plain(described).items() if name not in ("out", "resume")}
