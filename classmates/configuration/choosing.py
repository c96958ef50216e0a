"""The options of a method, for flags and YAML, and the error for one that it does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from classmates.configuration.arguments import Argument, arguments_of
from classmates.errors import UserError
from classmates.methods import Method
from classmates.methods import spec as specs


def options_of(kind: type[Method]) -> dict[str, Argument]:
    """Return the options of a method by name: all its arguments but the network and the data.

    Those of its base class are among them where it hands unnamed options on to it.
    """
    typed: dict[str, Argument] = {}
    for base in kind.__mro__:
        if issubclass(base, Method) and "__init__" in vars(base):
            typed = {**arguments_of(base), **typed}
    return {name: typed[name] for name, _ in specs.options_of(kind) if name in typed}


def unknown_option(option: str, cls: type[Method], help_flag: str) -> UserError:
    """Make the error for an option that a method does not have."""
    options = options_of(cls)
    others = [name for name, method in specs.known_methods().items() if option in options_of(method)]
    if others:
        hint = f"it is one of {' and '.join(others)}; choose with --method"
    elif not options:
        hint = "it has none"
    else:
        hint = likely(option, options, f"{help_flag} {cls.__name__}")
    return UserError(f"unknown option of {cls.__name__} '{option}': {hint}")


def likely(name: str, names: Iterable[str], see: str) -> str:
    """Name those most like an unknown name, or else the command that shows every one."""
    close = difflib.get_close_matches(name, list(names), cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"`{see}` shows every one"
