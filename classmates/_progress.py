"""Progress bars of what takes long, which whoever asks for none does not get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

DELAY = 2
"""The seconds before a bar appears."""

_shown: ContextVar[bool] = ContextVar("shown", default=True)


@contextmanager
def progress_bars(shown: bool) -> Iterator[None]:
    """Show the bars made within the block, or none."""
    before = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(before)


def bar(items: Iterable[Item], title: str, unit: str, count: int | None = None) -> tqdm[Item]:
    """Return the items; where going through them takes long a bar shows how far it is, and vanishes at the end.

    count: how many there are, where they have no length.
    """
    shown = _shown.get()
    return tqdm(items, title, count, leave=False, unit=unit, delay=DELAY, disable=not shown)
