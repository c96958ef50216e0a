"""What a comparison or a search is given in Python, brought to what the command line has: names and plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from classmates.configuration.settings import cut_at_commas
from classmates.data.augmentation import Augmentation
from classmates.errors import LONGEST, UserError
from classmates.methods.spec import MethodSpec

MODEL = "a model's name, such as 'resnet20', or FILE.py:CLASS for one of your own"
NAMES = {
    "models": MODEL,
    "model": MODEL,
    "data": "a data set's name, such as 'cifar100', or a folder",
    "recipe": "a recipe's name, such as 'common', or a YAML file, to which one of Python can be written",
}
"""By argument: what names the things that it takes."""


def listed(given: Any) -> list[Any]:
    """Return the items of a list; a text is cut at its commas, as the command line has it, and all else is one."""
    if isinstance(given, str):
        return cut_at_commas(given) if given else []
    return [*given] if isinstance(given, Sequence) else [given]


def name_of(argument: str, given: Any) -> str:
    """Return what names a model, data set or recipe.

    Raises:
        UserError: it is an object of Python, which the process of a run could not be told of.
    """
    if isinstance(given, str | PathLike):
        return fspath(given)
    raise UserError(f"{argument}: {shown(given)} is no name, and runs are made by names: give {NAMES[argument]}")


def names_of(argument: str, given: Any) -> list[str]:
    """Return what names models or data sets, of a list of them; UserError as ``name_of``."""
    return [name_of(argument, item) for item in listed(given)]


def settings_of(argument: str, given: Any) -> Mapping[str, Any]:
    """Return settings by name, none for None, with paths and numbers of NumPy as YAML has them.

    Raises:
        UserError: anything else than a mapping of names.
    """
    if not isinstance(given, Mapping | None):
        raise UserError(f"{argument}: {shown(given)} is no dict of settings: give one, such as {{'lr': 0.1}}")
    for name in given or {}:
        if not isinstance(name, str):
            raise UserError(f"{argument}: {shown(name)} is no name of a setting: give a text, such as 'lr'")
    return {name: _as_in_yaml(value, f"{argument}: {name}") for name, value in (given or {}).items()}


def _as_in_yaml(value: Any, who: str) -> Any:
    if isinstance(value, Augmentation):
        chosen = {field.name: getattr(value, field.name) for field in fields(value)}
        value = {field.name: chosen[field.name] for field in fields(value) if chosen[field.name] != field.default}
    if isinstance(value, Mapping):
        return {name: _as_in_yaml(item, f"{who}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_in_yaml(item, who) for item in value]
    if isinstance(value, nn.Module):
        raise UserError(
            f"{who} is {shown(value)}, and runs are made by names: write a function that makes it, and give "
            "its name, FILE.py:NAME"
        )
    if isinstance(value, PathLike):
        return fspath(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def named_method(given: Any) -> MethodSpec:
    """Return the spec of a method that is given as a class, a partial of one, or a spec.

    Raises:
        UserError: it is something else, or holds what a run cannot be told of: a class that no other process finds,
            or an option that is an object.
    """
    spec = MethodSpec.of(given)
    if spec is None:
        raise UserError(
            f"methods: {shown(given)} is no method: give a name, such as 'MCL', a class or a partial of one"
        )
    if spec.kind.__module__ == "__main__" or MethodSpec.find(spec.class_path) is not spec.kind:
        raise UserError(
            f"methods: other processes cannot import {spec.class_path}: put it into a file and name it "
            f"'FILE.py:{spec.name}'"
        )
    for name, value in spec.options.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(item, str | int | float | Path | None) or MethodSpec.of(item) for item in items):
            raise UserError(
                f"methods: {name} of {spec.name} is {shown(value)}, and runs are made by names: give a text or "
                "number, for a teacher the folder of its run"
            )
    return spec


def shown(given: Any) -> str:
    """Return how a message shows an object: the first line of what Python has for it."""
    text = next(iter(repr(given).splitlines()), "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
