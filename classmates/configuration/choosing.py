"""Methods by name, for flags and YAML: this package's by their own name, anybody's by import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from classmates.catalog import methods
from classmates.configuration.arguments import Argument, arguments_of
from classmates.errors import UserError, unknown
from classmates.methods import Method


def find_method(name: Any) -> type[Method]:
    """The method class that is called ``MCL`` or ``my_module.MyMethod``.

    Raises:
        UserError: there is no such thing, or it is no Method.
    """
    known = methods()
    if name in known:
        return known[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        raise unknown("method", str(name), known)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"method '{name}' cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, Method)):
        raise UserError(f"method '{name}' is no method: it must be a class derived from classmates.Method")
    return found


def import_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def options_of(cls: type) -> dict[str, Argument]:
    """The options of a method by name: all its arguments but the first two, the network and the data."""
    network_and_data = list(inspect.signature(cls).parameters)[:2]
    return {name: argument for name, argument in arguments_of(cls).items() if name not in network_and_data}


def takes_keywords(cls: type) -> bool:
    """Whether it hands options on to its base class, so that their names cannot be told from its signature."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(cls).parameters.values())


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
