"""Methods and tasks by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from classmates.configuration.arguments import Argument, arguments_from, described
from classmates.errors import UserError
from classmates.methods.spec import MethodSpec
from classmates.runs.spec import Spec
from classmates.runs.task_spec import TaskSpec

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


def likely(name: str, names: Iterable[str], see: str) -> str:
    """Return the names most like an unknown one, or else the command that shows every one."""
    close = difflib.get_close_matches(name, list(names), cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"
