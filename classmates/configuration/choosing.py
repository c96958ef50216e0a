"""Methods and tasks by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from classmates.configuration.arguments import Argument, arguments_from, described, likely
from classmates.errors import UserError
from classmates.methods.spec import MethodSpec
from classmates.runs.spec import Spec, class_path, import_path, takes_any_option
from classmates.runs.task_spec import TaskSpec

__all__ = [
    "MethodSpec",
    "as_class",
    "as_spec",
    "family_for",
    "for_method",
    "options_of",
    "takes_any_option",
    "unknown_option",
]

FAMILIES: tuple[type[Spec], ...] = (MethodSpec, TaskSpec)
"""The specs of the classes that an argument may take by name."""


def family_of(kind: type[Any]) -> type[Spec]:
    """Return the spec of a class: that of methods or of tasks."""
    return next(family for family in FAMILIES if issubclass(kind, family.base()))


def family_for(argument: Argument) -> type[Spec]:
    """Return the spec of the classes that an argument takes by name."""
    return family_of(argument.returns)


def options_of(kind: type[Any]) -> dict[str, Argument]:
    """Return the options of a method or task by name, as the command line has them."""
    return arguments_from(family_of(kind).parameters_of(kind), described(kind))


def unknown_option(option: str, kind: type[Any], flag: str, command: str) -> UserError:
    """Make the error for an option that a method or task does not have. flag: that by which it is chosen."""
    options, family = options_of(kind), family_of(kind)
    others = [name for name, other in family.known().items() if option in options_of(other)]
    if others:
        hint = f"it is one of {' and '.join(others)}; choose with --{flag}"
    elif not options:
        hint = "it has none"
    else:
        hint = likely(option, options, f"classmates {command} --{flag}.help {kind.__name__}")
    return UserError(f"unknown option of {kind.__name__} '{option}': {hint}")


def as_class(cls: type) -> dict[str, Any]:
    """Return a class as jsonargparse wants it, without options so far."""
    return {"class_path": import_path(cls), "init_args": {}}


def as_spec(made: Any, family: type[Spec], chosen: frozenset[str] | None = None) -> Spec:
    """Return the spec of a method or task that jsonargparse gives as a class, or as a partial with typed options.

    Methods among the options become the mappings that YAML has for them. chosen: the options that the user gave.
    """
    if not isinstance(made, partial):
        spec = family.of(made)
        assert spec is not None  # an argument that takes a class by name has one
        return spec
    (kind,) = (argument for argument in made.args if inspect.isclass(argument))
    options = {name: without_partials(value) for name, value in made.keywords.items()}
    return family(class_path(kind), options, chosen)


def without_partials(value: Any) -> Any:
    """Return a value with each method in it as the mapping that YAML has for it."""
    if isinstance(value, partial):
        spec = as_spec(value, MethodSpec)
        return {"class_path": spec.class_path, "init_args": dict(spec.options)}
    return [without_partials(item) for item in value] if isinstance(value, list | tuple) else value


def for_method(by_method: Any, kind: type) -> dict[str, Any]:
    """Return the settings for one method among those by method's name; none where there are none for it."""
    found = by_method.get(kind.__name__) if isinstance(by_method, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    options = found.get("method")
    return {**found, "method": {"class_path": class_path(kind), **options}} if options else dict(found)
