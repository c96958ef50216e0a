"""Errors meant for the person at the keyboard: the thing, its value and the fix, and no traceback."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from classmates._names import in_unicode

SHOWN = 12
"""The most names that a message lists."""
LONGEST = 100
"""The most letters that a message shows of an unknown name."""
LISTED = ("method", "model", "data set")
"""The kinds of names that ``classmates list`` shows."""


class UserError(ValueError):
    """Something the user gave cannot work; the message says what, its value and how to mend it (exit code 2)."""

    exit_code = 2

    def __init__(self, message: object = ""):
        super().__init__(in_unicode(str(message)))


class NonFiniteLoss(ArithmeticError):
    """Training has diverged: a term of the loss or a weight is NaN, infinite or beyond use (exit code 3).

    The message names it and the step.
    """

    exit_code = 3


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, to be part of another; its type where it has no message."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def level_of_the_user() -> int:
    """Return the ``stacklevel`` for a warning by the caller that names the first line outside of this package."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


def nearest(
    name: str, choices: Iterable[str], count: int = 3, *, listed: bool = False, in_order: bool = False
) -> str:
    """Return the known names most like ``name``, to end a sentence; where none is like it, every name or the first.

    listed: whether ``classmates list`` shows them, which is then said instead of some of many names. in_order:
    whether they come in an order of their own, in which every one is then named.
    """
    names = [*choices] if in_order else sorted(choices)
    lowered: dict[str, str] = {}
    for known in names:
        lowered.setdefault(known.lower(), known)
    close = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(repr(match) for match in close)}?"
    if len(names) > SHOWN and listed:
        return "`classmates list` shows every name"
    shown = names if in_order else names[:SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"there are: {', '.join(shown)}{more}"


def unknown(kind: str, name: object, choices: Iterable[str], *, in_order: bool = False) -> UserError:
    """Return the error for a name that is not known: ``unknown method 'MLC': did you mean 'MCL'?``

    in_order: as ``nearest`` has it.
    """
    text = str(name)
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return UserError(f"unknown {kind} '{shown}': {nearest(shown, choices, listed=kind in LISTED, in_order=in_order)}")


def check_choice(option: str, value: object, words: Any) -> None:
    """Raise UserError, naming the nearest word, where the value of an option is none of its words.

    words: a ``Literal`` type, or the words themselves.
    """
    choices = get_args(words) or tuple(words)
    if value not in choices:
        raise unknown(option, value, choices)


def check_finite(option: str, value: Any) -> None:
    """Raise UserError for a number that is NaN or infinite, also within a list or a mapping."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            check_finite(f"{option}.{name}", part)
    elif isinstance(value, list | tuple):
        for part in value:
            check_finite(option, part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{option}={value}: give a finite number")
