"""Memory that is not there: refused before it is asked for where that can be counted, else told in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import OutOfMemoryError

from classmates.errors import UserError, first_line

GIB = 2**30
PROCESS = 2**27
"""Bytes that a process with PyTorch takes at least."""
REFUSED = ("can't allocate memory", "Storage size calculation overflowed")
"""What PyTorch says where an allocation on the CPU has failed."""


def require_memory(option: str, what: str, size: int) -> None:
    """Raise UserError where something takes more bytes than this machine's memory has altogether.

    Args:
        option: what asks for it, as ``name=value``.
        what: what it is that takes the memory, in the plural.
        size: its bytes, or a lower bound.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise UserError(
            f"{option}: {what} take {size / GIB:,.0f} GiB, and this machine has {there / GIB:,.0f} GiB of memory: "
            "choose a smaller number"
        )


@contextmanager
def told_of_full_memory() -> Iterator[None]:
    """Within the block, turn PyTorch's error for memory that cannot be had into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, OutOfMemoryError) or any(words in str(error) for words in REFUSED):
            raise UserError(
                f"the memory is not enough ({first_line(error)}): take a smaller --batch_size or --image_size, or "
                "less of what the method adds (--method.help NAME)"
            ) from error
        raise
