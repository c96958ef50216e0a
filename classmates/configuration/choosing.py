"""Methods by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from classmates.catalog import methods
from classmates.configuration.arguments import Argument, arguments_from, described
from classmates.errors import UserError
from classmates.methods.spec import find_method, parameters_of
from classmates.methods.spec import takes_any_option as takes_keywords

__all__ = ["find_method", "import_path", "likely", "options_of", "takes_keywords", "unknown_option"]


def import_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def options_of(cls: type) -> dict[str, Argument]:
    """Return the options of a method by name, as the command line has them."""
    return arguments_from(parameters_of(cls), described(cls))


def unknown_option(option: str, cls: type, help_flag: str) -> UserError:
    """The error for an option that a method does not have."""
    options = options_of(cls)
    others = [name for name, method in methods().items() if option in options_of(method)]
    if others:
        hint = f"it is one of {' and '.join(others)}; choose with --method"
    elif not options:
        hint = "it has none"
    else:
        hint = likely(option, options, f"{help_flag} {cls.__name__}")
    return UserError(f"unknown option of {cls.__name__} '{option}': {hint}")


def likely(name: str, names: Iterable[str], see: str) -> str:
    """The names most like an unknown one, or else the command that shows every one."""
    close = difflib.get_close_matches(name, list(names), cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"
