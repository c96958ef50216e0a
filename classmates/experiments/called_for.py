"""The network and the recipe of ``train`` that data call for, where a comparison leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from classmates._progress import note
from classmates.comparisons.recipe import Recipe
from classmates.errors import UserError
from classmates.experiments.layers import typed_settings
from classmates.training.config import TrainConfig
from classmates.training.settling import by_recipe
from classmates.training.setup import load_images

PLACEHOLDER = "resnet8"
"""The model under which settings are typed before the data have been asked for theirs."""


@dataclass(frozen=True)
class CalledFor:
    """What ``train`` takes for data: the name of the model, if need be its choice, that of the recipe, and notes."""

    model: str
    recipe: str
    notes: tuple[str, ...]


def called_for(wanted: Recipe, data: str, overrides: Mapping[str, Any], model: str | None = None) -> CalledFor:
    """Return what ``train`` chooses for data by what is known of the first row's settings.

    Args:
        wanted: with rows, base "auto".
        data: one of its data sets.
        overrides: arguments of ``train`` over everything else.
        model: the one that is asked for, if any.
    """
    row = next(iter(wanted.rows))
    config = TrainConfig(
        **typed_settings(wanted, row, model or PLACEHOLDER, data, overrides) | {"model": model}, callbacks=()
    )
    chosen, recipe, notes = by_recipe(config, load_images(config))
    return CalledFor(model or str(chosen["model"]), recipe, tuple(notes))


def with_model(wanted: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Return a comparison with the network that its data call for, where it names none; notes are printed.

    Raises:
        UserError: its data call for different networks.
    """
    if wanted.models:
        return wanted
    found = {data: called_for(wanted, data, overrides) for data in wanted.data}
    models = {one.model for one in found.values()}
    if len(models) > 1:
        said = ", ".join(f"{data}: {one.model}" for data, one in found.items())
        raise UserError(f"models: these data call for different networks ({said}): name one or more with --models")
    (model,) = models
    for text in dict.fromkeys([text for one in found.values() for text in one.notes]):
        note(text)
    note(f"model {model}, as train chooses for these data where none is named")
    return replace(wanted, models=(model,))
