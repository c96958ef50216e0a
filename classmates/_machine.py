"""The machine that this process runs on."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

import torch

from classmates.errors import UserError


def cpu_name() -> str:
    """Return the name of the processor as the system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores the program may use: those a batch system or container allows it.

    With OMP_PROC_BIND, OpenMP ties the main thread to one core, which says nothing of the others: then all there are.
    """
    if "OMP_PROC_BIND" in os.environ or not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has when it is asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def require_kernels(device: torch.device) -> None:
    """Raise UserError for a GPU of NVIDIA's that the installed PyTorch was not built for, such as one before 2018."""
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in torch.cuda.get_arch_list()]
    if device.type != "cuda" or not built or not all(built):  # no such names: GPUs of AMD's
        return
    major, minor = here = torch.cuda.get_device_capability(device)
    kinds = [(one[1], (int(one[2]), int(one[3]))) for one in built if one is not None]
    if not any(
        here >= (of, least) if kind == "compute" else of == major and least <= minor for kind, (of, least) in kinds
    ):
        raise UserError(
            f"{torch.cuda.get_device_name(device)} is a GPU that this PyTorch was not built for: say --accelerator "
            "cpu, or install one that was, such as pip install torch torchvision --index-url "
            "https://download.pytorch.org/whl/cu126"
        )


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16: a GPU since Ampere, a CPU with AVX-512 BF16 or AMX.

    Others convert back and forth, or take many times as long as in float32.
    """
    if device.type == "cuda":  # without a number: every GPU that is visible
        numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
        return all(torch.cuda.get_device_capability(number)[0] >= 8 for number in numbers)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or has_tiles())


def has_tiles() -> bool:
    """Return whether the processor multiplies tiles of matrices (AMX)."""
    return torch.cpu._is_amx_tile_supported()
