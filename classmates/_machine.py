"""The machine that this process runs on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch


def cpu_name() -> str:
    """Return the name of the processor as the system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has when it is asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16: a GPU since Ampere, a CPU with AVX-512 BF16 or AMX.

    Others convert back and forth, or take many times as long as in float32.
    """
    if device.type == "cuda":  # without a number: every GPU that is visible
        numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
        return all(torch.cuda.get_device_capability(number)[0] >= 8 for number in numbers)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
