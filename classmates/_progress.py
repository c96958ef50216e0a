"""What is said beside results, all of it on standard error: notes, and how far something is that takes long."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from classmates._names import in_unicode
from classmates._text import filled

Item = TypeVar("Item")

DELAY = 2
"""The seconds before a bar appears."""
EVERY = 30.0
"""The seconds between two lines on how far something is, where lines cannot be rewritten."""
LINE = 80
"""The columns of a line where no terminal says how many it has."""


class Saying(NamedTuple):
    """What is said: notes; progress; what the libraries underneath say.

    spelled: how a note names flags, as the command that is run takes them.
    """

    notes: bool = True
    progress: bool = True
    libraries: bool = False
    spelled: Callable[[str], str] = str


USUAL = Saying()
_saying: ContextVar[Saying] = ContextVar("saying")


def saying() -> Saying:
    """Return what is said now."""
    return _saying.get(USUAL)


@contextmanager
def say(**what: Any) -> Iterator[None]:
    """Say some of it, or not, within the block; what is not named stays as it is."""
    before = _saying.set(saying()._replace(**what))
    try:
        yield
    finally:
        _saying.reset(before)


def columns() -> int:
    """Return the columns of the terminal that standard error is."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or LINE
    except (OSError, ValueError):  # no terminal, or no file at all
        return LINE


def note(text: str) -> None:
    """Say something that is worth knowing beside the result; wrapped at words on a terminal, one line elsewhere."""
    if saying().notes:
        said = in_unicode(saying().spelled(text))
        tqdm.write(wrapped(f"note: {said}"), file=sys.stderr)  # above a bar, if there is one


def wrapped(text: str) -> str:
    """Return a text in lines of the terminal's width; as it is where standard error is none."""
    if not sys.stderr.isatty():
        return text
    width = columns() - 1
    return "\n".join(line if len(line) <= width else "\n".join(filled(line, width)) for line in text.splitlines())


def rewritable() -> bool:
    """Return whether a line can be rewritten: in a terminal and in a notebook."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


@contextmanager
def bars_of(library: ModuleType) -> Iterator[None]:
    """Within the block, let a library of Hugging Face show progress bars only where others are shown."""
    shown = saying().progress and rewritable()
    hide = not (shown or library.are_progress_bars_disabled())
    try:
        if hide:
            library.disable_progress_bars()
        yield
    finally:
        if hide:
            library.enable_progress_bars()


def bar(items: Iterable[Item], title: str, unit: str, count: int | None = None) -> tqdm[Item]:
    """Return the items; where going through them takes long a bar shows how far it is, and vanishes at the end.

    count: how many there are, where they have no length.
    """
    shown = saying().progress and rewritable()
    return tqdm(items, title, count, leave=False, unit=unit, delay=DELAY, disable=not shown, **_size())


class Status:
    """One line on how far something is; use ``with``, or ``close`` it.

    In a terminal or a notebook it is rewritten in place; elsewhere it is written anew, a whole line every ``EVERY``
    seconds at most.

    Args:
        text: what it says at first.
        total: how many steps there are.
        done: how many of them are done already.
        shown: whether it is shown, if progress is.
        form: {desc} for what it says, {remaining} for the time left by the steps so far, {bar} for a bar in
            the room that is left.
    """

    def __init__(self, text: str, total: int, done: int = 0, *, shown: bool = True, form: str = "{desc}"):
        self.in_place = rewritable()
        self.told = time.monotonic()
        self.bar = tqdm(
            desc=text,
            total=total,
            initial=done,
            file=sys.stderr if self.in_place else StringIO(),  # which makes the texts of the lines
            mininterval=0.2 if self.in_place else float("inf"),
            smoothing=0,  # the time left is by all steps so far, and by what was done between them
            bar_format=form,
            disable=not (shown and saying().progress),
            **_size(),
        )

    def describe(self, text: str) -> None:
        """Say what is shown from now on."""
        self.bar.set_description_str(text, refresh=self.in_place)
        self._tell()

    def advance(self) -> None:
        """Count a step."""
        self.bar.update()
        self._tell()

    def close(self) -> None:
        """Leave the line as it is, with the time that it took where all is done."""
        if self.bar.n == self.bar.total:
            self.bar.bar_format = (self.bar.bar_format or "").replace("{remaining} left", "in {elapsed}")
        self.bar.close()

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tell(self) -> None:
        if self.in_place or self.bar.disable or time.monotonic() - self.told < EVERY:
            return
        self.told = time.monotonic()
        form = (self.bar.bar_format or "").replace("|{bar}|", "").rstrip()
        print(tqdm.format_meter(**{**self.bar.format_dict, "bar_format": form}), file=sys.stderr)


def _size() -> dict[str, Any]:
    """Return how wide tqdm is to draw."""
    return {"dynamic_ncols": True} if sys.stderr.isatty() else {"ncols": LINE}
