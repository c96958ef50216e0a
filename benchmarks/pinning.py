"""What must be settled before torch is imported, for timings that mean something; imports no torch itself."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping


def cores() -> list[int]:
    """Return the cores that this program was started with: pinned, its first thread has one of them."""
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return [*map(int, re.findall(r"\d+", os.environ.get("OMP_PLACES", "")))] or sorted(here)


def settings() -> dict[str, str]:
    """Environment variables that pin threads and calm the allocator, for the cores that this process may use."""
    return {
        # Unpinned, threads may be packed on one core, where every barrier waits for a time slice.
        "OMP_NUM_THREADS": str(len(cores())),
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": ",".join(f"{{{core}}}" for core in cores()),
        # Otherwise glibc returns large tensors to the kernel after every step and gets them back page by page.
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**32),
        "KINETO_LOG_LEVEL": "5",  # the profiler, which is asked for memory, would print a few lines every time
    }


def settle(environment: Mapping[str, str] = os.environ) -> None:
    """Starts this program again with ``settings``, unless it runs with them; what is already set stays as it is."""
    if sys.platform != "linux" or all(name in environment for name in settings()):
        return
    os.execve(sys.executable, sys.orig_argv, {**settings(), **environment})
