"""Methods by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from classmates.configuration.arguments import Argument, arguments_from, described
from classmates.errors import UserError
from classmates.methods import Method
from classmates.methods.spec import known_methods, parameters_of


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


def likely(name: str, names: Iterable[str], see: str) -> str:
    """Return the names most like an unknown one, or else the command that shows every one."""
    close = difflib.get_close_matches(name, list(names), cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"
