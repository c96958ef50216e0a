"""The environment of a run, stored with its result: versions, hardware, commit, memory."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from classmates._machine import cpu_name
from classmates._memory import highest_memory
from classmates.data.readers.jpeg import decoder


def environment(device: torch.device) -> dict[str, str | int | None]:
    """Return versions, the decoder of JPEGs, the processor, the accelerator in use and a source checkout's commit.

    "cuda" is the version that PyTorch was built for; None where it was for none.
    """
    packages = ("classmates", "torch", "torchvision", "timm", "lightning")
    return {
        **{name: version(name) for name in packages},
        "jpeg_decoder": decoder(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": commit(),
    }


def commit() -> str | None:
    """Return the commit of the source checkout in use, with a "+" where files were changed; None if installed."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(source)]
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*ask, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.stdout.strip() else "")


def peak_memory_mib(device: torch.device) -> float:
    """Return the most memory that this process has held: of the GPU where one is used, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return highest_memory()
