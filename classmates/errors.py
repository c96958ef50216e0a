"""Errors meant for the person at the keyboard: the thing, its value and the fix, and no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave cannot work; the message says what, its value and how to mend it (exit code 2)."""

    exit_code = 2


class NonFiniteLoss(ArithmeticError):
    """A term of the loss is NaN or infinite; the message names the term and the step (exit code 3)."""

    exit_code = 3


def nearest(name: str, choices: Iterable[str], count: int = 3) -> str:
    """The known names most like ``name``, as the end of a sentence; every name where there are only a few."""
    names = sorted(choices)
    lowered: dict[str, str] = {}
    for known in names:
        lowered.setdefault(known.lower(), known)
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(repr(match) for match in close)}?"
    if len(names) <= 12:
        return f"there are: {', '.join(names)}"
    return "`classmates list` shows every name"


def unknown(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not known: ``unknown method 'MLC': did you mean 'MCL'?``"""
    return UserError(f"unknown {kind} '{name}': {nearest(name, choices)}")
