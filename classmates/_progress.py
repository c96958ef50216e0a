"""Progress bars of what takes long, which whoever asks for none does not get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

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


def bar(*items: Any, **options: Any) -> Any:
    """Make a ``tqdm`` bar that appears where its work takes long, and vanishes at its end."""
    return tqdm(*items, delay=DELAY, leave=False, disable=not _shown.get(), **options)
