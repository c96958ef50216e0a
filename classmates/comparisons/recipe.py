"""A comparison as a YAML file has it: rows, models, data, their settings, and the values that were published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from classmates._files import at_home, recipes_folder
from classmates._names import in_unicode
from classmates._yaml import read_yaml
from classmates.errors import UserError, check_choice, unknown

Base = Literal["auto", "common", "paper", "none"]
FigureName = Literal["ablation", "learning_curves", "accuracy_against_time", "calibration", "sensitivity", "tsne"]
PRINTED = re.compile(r"[-−]?\d+(\.\d+)?( *± *\d+(\.\d+)?)?")
"""A published value, perhaps with its spread."""
WHO = ("student", "peers", "ensemble")
SCALES = ("accuracy", "error")
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class ScoreChoice:
    """The figure of a run that stands in its table.

    who: whose it is: the student's, the mean of its peers' or the ensemble's. metric: the name of one that the runs
    were judged by, or None for their headline; of others than that there are only the student's. as_: of shares,
    "accuracy" or "error" ("as" in YAML).
    """

    who: str = "student"
    metric: str | None = None
    as_: str = "accuracy"


@dataclass(frozen=True)
class Recipe:
    """One table or figure, or whatever the user compares.

    Args:
        title: of the table.
        source: where the published values come from.
        base: what each row starts from: "auto" (train's recipe for the data), "common" (one recipe for all, as on
            CIFAR), "paper" (each method's own) or "none".
        settings: arguments of ``classmates.train`` for every row, over the base.
        models: names of models, the columns of the table.
        data: names or folders of data sets.
        seeds: of the runs of each row.
        reference: the row that the others are compared with; None for Baseline or else the first row.
        score: the figure in the table.
        rows: settings of each row by its label, over ``settings``.
        models_settings: settings by model, over the rows'; those under "rows" are for one row of that model alone.
        scores: the rows whose figure is another one than ``score``.
        published: values as printed, by model and row.
        figures: names of the figures that the report draws.
        notes: what could not be done as published, and why.
        asked: what the command asked for beyond all this, by flag; ``compare`` notes it.
    """

    title: str = ""
    source: str = ""
    base: Base = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: Sequence[str] = ()
    data: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    reference: str | None = None
    score: ScoreChoice = ScoreChoice()
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scores: Mapping[str, ScoreChoice] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, str | float]] = field(default_factory=dict)
    figures: Sequence[str] = ()
    notes: Sequence[str] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> Recipe:
        """The recipe with the names of its models and data as tables have them, which need not be those of files."""
        return replace(self, models=[*map(in_unicode, self.models)], data=[*map(in_unicode, self.data)])

    @property
    def headline(self) -> str:
        """The title, and what the command asked for beyond the recipe."""
        flags = " ".join(f"{flag} {value}" for flag, value in self.asked.items())
        return f"{self.title} ({flags})" if flags else self.title

    def score_of(self, row: str) -> ScoreChoice:
        """Return the figure that stands in the table for this row."""
        return self.scores.get(row, self.score)

    def plain(self) -> dict[str, Any]:
        """Return the recipe as YAML has it; ``read`` of it gives the same recipe."""
        plain = {name: _plain(value) for name, value in asdict(self).items()}
        for score in (plain["score"], *plain["scores"].values()):
            score["as"] = score.pop("as_")
        return plain


def bundled() -> dict[str, Path]:
    """Return the YAML files that come with the package, by their names below ``recipes/`` (mcl, evidence/photos)."""
    folder = recipes_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def bundled_name(name: str) -> str:
    """Return how ``bundled`` has the name of a file in a checkout (recipes/mcl.yaml)."""
    return name.removeprefix("recipes/").removesuffix(".yaml")


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: the user's, or else one that comes with the package (papers/mcl-okd/table1).

    Raises:
        UserError: there is none.
    """
    known = {short: path for short, path in bundled().items() if "/" in short}
    if bundled_name(name) in known and not Path(name).is_file():
        return known[bundled_name(name)]
    if name.endswith((".yaml", ".yml")):
        if not at_home(name).is_file():
            raise UserError(f"recipe '{name}': there is no such file (seen from {Path.cwd()})")
        return at_home(name)
    raise unknown("recipe", name, [*known, "common", "paper"])


def find_settings(name: str) -> Path:
    """Return a YAML file of settings: the user's, or else one that comes with the package (mcl, recipes/mcl.yaml).

    Raises:
        UserError: a word that is neither a file nor the name of one of the package's.
    """
    known, short = bundled(), bundled_name(name)
    if at_home(name).is_file():
        return at_home(name)
    if short in known:
        return known[short]
    if name == short or name.startswith("recipes/"):
        raise unknown("file of settings", name, known)
    return Path(name)


def load_recipe(name: str) -> Recipe:
    """Return the recipe in a file, by its path or its name below ``recipes/``.

    Raises:
        UserError: no such recipe, no YAML, or a key, row or value that cannot be.
    """
    path = find_recipe(name)
    recipe = read(read_yaml(path, f"recipe {path}"), f"recipe {path}")
    if not recipe.rows:
        raise UserError(f"recipe {path} has no rows: it needs 'rows:', and below it the settings of each by its name")
    if recipe.asked:
        raise UserError(f"recipe {path}: 'asked' is noted by compare; a recipe says it under 'settings'")
    _check_rows(recipe, f"recipe {path}")
    return recipe


def read(content: Any, where: str) -> Recipe:
    """Return a recipe from the plain values of a YAML file. ``where`` begins the messages of errors."""
    mapping = _mapping(content, where)
    _known("key", mapping, [entry.name for entry in fields(Recipe)], where)
    given = dict(mapping)
    for name in ("settings", "rows", "models_settings", "scores", "published", "asked"):
        if name in given:
            given[name] = _mapping({} if given[name] is None else given[name], f"{where}: {name}")
    for name in ("title", "source", "base", "reference"):
        if not isinstance(given.get(name, ""), str) and (name, given[name]) != ("reference", None):
            raise UserError(f"{where}: {name} must be a text, not {given[name]!r}")
    for name in ("models", "data", "figures", "notes"):
        if name in given and not _is_list(given[name], str):
            raise UserError(f"{where}: {name} must be a list of texts, not {given[name]!r}")
    for name in ("rows", "models_settings", "published"):
        given[name] = {
            str(key): _mapping({} if value is None else value, f"{where}: {name}: {key}")
            for key, value in given.get(name, {}).items()
        }
    given["published"] = {model: _by_text(values) for model, values in given["published"].items()}
    for model, settings in given["models_settings"].items():
        if "rows" in settings:
            rows = _mapping(settings["rows"] or {}, f"{where}: models_settings: {model}: rows")
            given["models_settings"][model] = {**settings, "rows": _by_text(rows)}
    if "seeds" in given:
        given["seeds"] = read_seeds(given["seeds"])
    if "score" in given:
        given["score"] = _score(given["score"], ScoreChoice(), f"{where}: score")
    scores = given.get("scores", {})
    given["scores"] = {
        str(row): _score(value, given.get("score", ScoreChoice()), f"{where}: scores: {row}")
        for row, value in scores.items()
    }
    recipe = Recipe(**given)
    _check(recipe, where)
    return recipe


def read_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return a number of seeds, from 0, or the seeds themselves.

    Raises:
        UserError: there is none, one is no whole number of 0 or more, or one comes twice.
    """
    if type(seeds) is int and seeds > MOST_SEEDS:
        raise UserError(f"seeds is {seeds}: give {MOST_SEEDS:,} at most; ten tell the spread of a result")
    wanted: Any = range(seeds) if type(seeds) is int and seeds >= 0 else seeds
    if not _is_list(wanted, int) or any(seed < 0 for seed in wanted):
        raise UserError(f"seeds is {seeds!r}; give how many (3) or which ones ([0,1,2])")
    if not wanted:
        raise UserError(f"seeds is {seeds!r}: there is none; a run needs one, a spread of results three or more")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"seeds is {seeds!r}: one of them comes twice")
    return tuple(wanted)


def names_method(settings: Mapping[str, Any]) -> bool:
    """Return whether settings say which method it is, and not only options of one."""
    method = settings.get("method")
    return bool(method.get("class_path") if isinstance(method, Mapping) else method)


def _check(recipe: Recipe, where: str) -> None:
    """Raise UserError for words that are none of those known and for rows that there are not."""
    check_choice(f"base in {where}", recipe.base, Base)
    if recipe.reference is not None:
        _known("reference", [recipe.reference], recipe.rows, where)
    _known("figure", recipe.figures, get_args(FigureName), where)


def _check_rows(recipe: Recipe, where: str) -> None:
    """Raise UserError for rows that a whole recipe does not have; a comparison may be a part of its rows."""
    _known("row among the scores", recipe.scores, recipe.rows, where)
    for model, values in recipe.published.items():
        _known(f"published row of {model}", values, recipe.rows, where)
        for row, value in values.items():
            if not PRINTED.fullmatch(str(value)):
                raise UserError(
                    f"{where}: published: {model}: {row} is {value!r}; give a number (71.5) or '71.5 ± 0.2'"
                )
    for model, settings in recipe.models_settings.items():
        rows = settings.get("rows", {})
        _known(f"row among the settings of {model}", rows, recipe.rows, where)
        for row, own in rows.items():
            _mapping({} if own is None else own, f"{where}: models_settings: {model}: rows: {row}")
    for row, settings in recipe.rows.items():
        options_alone = isinstance(settings.get("method", {}), Mapping)
        if not (names_method(settings) or (names_method(recipe.settings) and options_alone)):
            raise UserError(f"{where}: row '{row}' names no method: it needs a line 'method: ...', such as Baseline")


def _score(given: Any, default: ScoreChoice, where: str) -> ScoreChoice:
    """Return a score from YAML; what it does not say is as in ``default``."""
    mapping = _mapping(given, where)
    _known("key", mapping, ("who", "metric", "as"), where)
    score = ScoreChoice(
        who=mapping.get("who", default.who),
        metric=mapping.get("metric", default.metric),
        as_=mapping.get("as", default.as_),
    )
    for word, words in ((score.who, WHO), (score.as_, SCALES)):
        _known("word", [word], words, where)
    if not isinstance(score.metric, str | None):
        raise UserError(f"{where}: metric must be a name, not {score.metric!r}")
    return score


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must have lines 'name: value', not {value!r}")
    return value


def _by_text(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping by row: YAML takes the names of some rows (4, 0.1) for numbers."""
    return {str(row): value for row, value in values.items()}


def _is_list(value: Any, kind: type) -> bool:
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    return is_sequence and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _known(kind: str, given: Mapping[str, Any] | Sequence[str], choices: Any, where: str) -> None:
    """Raise UserError for the first of ``given`` that is not among ``choices``."""
    for name in given:
        if name not in choices:
            raise unknown(f"{kind} in {where}", str(name), [str(choice) for choice in choices])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
