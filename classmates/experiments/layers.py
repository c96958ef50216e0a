"""The settings of a row's runs: what goes over what, and what may be said where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from classmates.comparisons.improvement import BASELINE
from classmates.comparisons.recipe import Recipe, names_method
from classmates.configuration.arguments import arguments_of, named
from classmates.configuration.choosing import options_of
from classmates.configuration.settings import Settings
from classmates.errors import UserError, nearest
from classmates.experiments.rows import DECIDED, TIMES, base_settings
from classmates.methods.spec import MethodSpec
from classmates.training.train import train

OVERRIDES = "--train"
"""Where the settings are from that go over all others."""


def typed_settings(recipe: Recipe, row: str, model: str, data: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument of ``train`` for a row's runs on a model and data, but for callbacks.

    Args:
        recipe: with the row.
        row, model, data: the place in the comparison.
        overrides: arguments of ``train`` that go over everything else.

    Raises:
        UserError: a setting that ``train`` does not take, of the wrong type, or that the comparison decides; or one
            for every row that names a method, or is an option which the method of this one does not have.
    """
    settings = Settings("train", arguments_of(train))
    quiet = {"progress": False, "report": False}  # a report takes longer than a short run
    settings.add(quiet | {"method": method_given(recipe, row)}, lambda name: f"key of row '{row}'")
    settings.add(base_settings(settings.kinds["method"], recipe.base), str)
    for where, layer in layers(recipe, row, model, overrides):
        add_layer(settings, layer, where)
    settings.add({"model": model, "data": data}, str)
    check_overrides(settings, overrides, recipe, row)
    typed = settings.typed()
    if (typed["devices"] not in ("auto", 1, "1")) or typed["num_nodes"] != 1:
        raise UserError(
            f"row '{row}' with model '{model}': a run of a comparison takes one device; several runs at a time "
            "(--workers, --on ray) use several, and on Ray --devices_per_run gives each run several"
        )
    if typed["batch_size"] == "auto":  # which depends on what else is on the GPU
        raise UserError(
            f"row '{row}' with model '{model}': batch_size is 'auto', but runs that are compared have the same one "
            "wherever they are made: give a number, or leave it out for the recipe's"
        )
    return typed


def method_given(recipe: Recipe, row: str) -> Any:
    """Return what names the method of a row: its own settings, or else those of all rows."""
    return next((given["method"] for given in (recipe.rows[row], recipe.settings) if names_method(given)), BASELINE)


def layers(
    recipe: Recipe, row: str, model: str, overrides: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where it is from, settings) over the base; what comes later goes over what came before.

    Raises:
        UserError: settings of several rows, over those of the row, name a method.
    """
    own = dict(recipe.models_settings.get(model, {}))
    of_row = (own.pop("rows", None) or {}).get(row) or {}
    of_model = f"the settings of model '{model}'"
    for where, of_rows in {of_model: own, OVERRIDES: overrides}.items():
        refuse_method(of_rows, where, "choose what is compared with --methods or the recipe's rows")
    yield "the recipe's settings", recipe.settings
    yield f"row '{row}'", {name: value for name, value in recipe.rows[row].items() if name != TIMES}
    yield of_model, own
    yield f"the settings of row '{row}' with model '{model}'", of_row
    yield OVERRIDES, overrides


def refuse_method(settings: Mapping[str, Any], where: str, fix: str) -> None:
    """Raise UserError where settings name a method, and not only options; ``fix`` says how it is chosen."""
    given = settings.get("method", {})
    if not isinstance(given, Mapping) or "class_path" in given:
        raise UserError(
            f"{where}: method {given!r} would take the place of every row's own, under that row's name: {fix}; only "
            "options of the rows' methods, such as method.beta, can be given here"
        )


def add_layer(settings: Settings, layer: Mapping[str, Any], where: str) -> None:
    """Add settings; UserError for what the comparison itself decides."""
    for name in layer:
        if name in DECIDED:
            raise UserError(
                f"{where}: '{name}' is for the comparison to say: --models, --data, --seeds, --out or --on"
            )
    settings.add(layer, lambda name: f"key '{name}' in {where}")


def check_overrides(settings: Settings, overrides: Mapping[str, Any], recipe: Recipe, row: str) -> None:
    """Raise UserError where ``--train`` has an option of methods that a row's method does not have."""
    kind, known = settings.kinds["method"], settings.known()
    for name, _ in settings.flatten(overrides):
        head, _, option = name.partition(".")
        if head != "method" or not option or named(f"{head}.{kind.renamed.get(option, option)}", known) is not None:
            continue
        specs = {label: MethodSpec.of(method_given(recipe, label)) for label in recipe.rows}
        kinds = {label: spec.kind for label, spec in specs.items() if spec is not None}
        options = {label: {*options_of(one), *one.renamed} for label, one in kinds.items()}
        if having := [label for label, its in options.items() if option in its]:
            raise UserError(
                f"{OVERRIDES}.{name}: row '{row}' has no such option, row '{having[0]}' has: write it into the rows "
                f'that have it, as --methods "{kinds[having[0]].__name__}({option}=...)" does'
            )
        every = set().union(*options.values())
        raise UserError(
            f"{OVERRIDES}.{name}: no row has such an option: "
            f"{nearest(option, every) if every else 'their methods have none'}"
        )
