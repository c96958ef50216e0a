"""Memory that is not there, refused before it is asked for or told in a sentence; and freed memory, which is kept."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def highest_memory() -> float:
    """Return the most MiB that this process has had in memory.

    On Linux not by ``getrusage``, whose peak of a new process begins at that of its maker.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (peak := re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)):
        return int(peak[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that tensors free instead of giving it back to the system after every batch.

    Otherwise each step's maps are mapped, zeroed and unmapped page by page: 26,000 page faults a step of
    EfficientNet-Lite0 at 18 images of 96 pixels, a seventh of its time on a quiet machine and half on a busy one; of
    its forward alone, at 64 images of 128 pixels, more than half.

    Returns:
        Whether it could be set; False with other C libraries, which is no error.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))  # -1: never, whatever is free
