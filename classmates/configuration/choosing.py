"""Methods by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from classmates.configuration.arguments import Argument, arguments_from, described, likely
from classmates.errors import UserError
from classmates.methods import Method
from classmates.methods.spec import (
    MethodSpec,
    class_path,
    find_method,
    known_methods,
    parameters_of,
    takes_any_option,
)

__all__ = [
    "as_class",
    "as_spec",
    "find_method",
    "for_method",
    "options_of",
    "takes_any_option",
    "unknown_option",
]


def options_of(kind: type[Method]) -> dict[str, Argument]:
    """Return the options of a method by name, as the command line has them."""
    return arguments_from(parameters_of(kind), described(kind))


def unknown_option(option: str, cls: type[Method], help_flag: str) -> UserError:
    """Make the error for an option that a method does not have."""
    options = options_of(cls)
    others = [name for name, method in known_methods().items() if option in options_of(method)]
    if others:
        hint = f"it is one of {' and '.join(others)}; choose with --method"
    elif not options:
        hint = "it has none"
    else:
        hint = likely(option, options, f"{help_flag} {cls.__name__}")
    return UserError(f"unknown option of {cls.__name__} '{option}': {hint}")


def as_class(cls: type) -> dict[str, Any]:
    """Return a class as jsonargparse wants it, without options so far."""
    return {"class_path": class_path(cls), "init_args": {}}


def as_spec(made: Any) -> MethodSpec:
    """Return the spec of a method that jsonargparse gives as a class, or as a partial with typed options.

    Methods among the options become the mappings that YAML has for them.
    """
    if not isinstance(made, partial):
        spec = MethodSpec.of(made)
        assert spec is not None  # an argument that takes a method has a class
        return spec
    (kind,) = (argument for argument in made.args if inspect.isclass(argument))
    return MethodSpec(class_path(kind), {name: without_partials(value) for name, value in made.keywords.items()})


def without_partials(value: Any) -> Any:
    """Return a value with each method in it as the mapping that YAML has for it."""
    if isinstance(value, partial):
        spec = as_spec(value)
        return {"class_path": spec.class_path, "init_args": dict(spec.options)}
    return [without_partials(item) for item in value] if isinstance(value, list | tuple) else value


def for_method(by_method: Any, kind: type) -> dict[str, Any]:
    """Return the settings for one method among those by method's name; none where there are none for it."""
    found = by_method.get(kind.__name__) if isinstance(by_method, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    options = found.get("method")
    return {**found, "method": {"class_path": class_path(kind), **options}} if options else dict(found)
