"""Methods and tasks by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from classmates.configuration.arguments import ANY_NAME, Argument, arguments_of, likely
from classmates.errors import UserError
from classmates.methods.spec import MethodSpec
from classmates.runs.spec import Spec, class_path, takes_any_option
from classmates.runs.task_spec import TaskSpec

FAMILIES: tuple[type[Spec], ...] = (MethodSpec, TaskSpec)
"""The specs of the classes that an argument may take by name."""


def family_of(kind: type[Any]) -> type[Spec]:
    """Return the spec of a class: that of methods or of tasks."""
    return next(family for family in FAMILIES if issubclass(kind, family.base()))


def options_of(kind: type[Any]) -> dict[str, Argument]:
    """Return the options of a method or task by name, as the command line has them."""
    found = arguments_of(kind, family_of(kind).parameters_of(kind))
    return found | {ANY_NAME: Argument(ANY_NAME, Any, None, "")} if takes_any_option(kind) else found


def spec_of(kind: type[Any], options: Mapping[str, Any]) -> Spec:
    """Return the spec of a method or task with the options that were given."""
    return family_of(kind)(class_path(kind), {name: shortened(value) for name, value in options.items()})


def shortened(value: Any) -> Any:
    """Return an option with each method in it as YAML has it, without the defaults that jsonargparse adds to it."""
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if not isinstance(value, Mapping) or value.keys() != {"class_path", "init_args"}:
        return value
    spec = spec_of(MethodSpec.find(value["class_path"]), value["init_args"])
    return {"class_path": spec.class_path, "init_args": dict(spec.options)}


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


def having(option: str, kinds: Iterable[str]) -> str | None:
    """Return how an option is given that some method or task has (``--method.peers of MCL``); None if none has it.

    kinds: the arguments by which the command chooses them.
    """
    for family in FAMILIES:
        names = [name for name, kind in family.known().items() if option in options_of(kind)]
        if names and family.noun in kinds:
            return f"--{family.noun}.{option} of {' or '.join(names)}"
    return None


def for_method(by_method: Any, kind: type) -> dict[str, Any]:
    """Return the settings for one method among those by method's name; none where there are none for it.

    Raises:
        UserError: what should be settings is something else, or is for a method that there is not.
    """
    of_each = _lines("methods", by_method)
    found = {MethodSpec.find(name): _lines(f"methods.{name}", given) for name, given in of_each.items()}.get(kind, {})
    options = _lines(f"methods.{kind.__name__}.method", found.get("method"))
    return {**found, "method": {"class_path": class_path(kind), **options}} if options else dict(found)


def _lines(name: str, given: Any) -> Mapping[str, Any]:
    """Return settings as they are given; UserError where they are no lines ``name: value``."""
    if not isinstance(given, Mapping | None):
        raise UserError(f"{name} must have lines 'name: value', not {given!r}")
    return given or {}
