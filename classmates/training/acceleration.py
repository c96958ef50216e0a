"""Precision and memory format: what pays on a device, chosen where the user leaves it open, and always said."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, get_args

import torch

from classmates.errors import unknown

MemoryFormat = Literal["auto", "contiguous", "channels_last"]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SMALLEST = 32  # pixels; maps of smaller images are too small for half precision to make up for its conversions


class Acceleration(NamedTuple):
    """precision: as Lightning names it. memory_format: a key of ``FORMATS``. notes: what was chosen, and why."""

    precision: str
    memory_format: MemoryFormat
    notes: list[str]


def choose(
    precision: str, memory_format: MemoryFormat, accelerator: str, image_size: tuple[int, int]
) -> Acceleration:
    """Puts what usually pays on a device in the place of each "auto"; other words stay as they are.

    On GPUs that compute in bfloat16, "bf16-mixed" and channels-last. On CPUs channels-last, and "bf16-mixed" where
    the processor multiplies in bfloat16; without such instructions it takes up to twice the time. On all else, and
    for images below 32 pixels, float32 and contiguous maps; but channels-last on CPUs always.

    Args:
        precision: "auto" or any of Lightning's words.
        memory_format: "auto", "contiguous" or "channels_last".
        accelerator: as Lightning names it.
        image_size: height and width in pixels.

    Raises:
        UserError: an unknown memory format.
    """
    if memory_format not in get_args(MemoryFormat):
        raise unknown("memory_format", memory_format, get_args(MemoryFormat))
    device, large = device_type(accelerator), min(image_size) >= SMALLEST
    bfloat16 = {"cpu": cpu_has_bfloat16, "cuda": cuda_has_bfloat16}.get(device, bool)()
    chosen = {
        "precision": "bf16-mixed" if bfloat16 and large else "32-true",
        "memory_format": "channels_last" if device == "cpu" or (bfloat16 and large) else "contiguous",
    }
    settled = {"precision": precision, "memory_format": memory_format}
    left_open = [name for name, word in settled.items() if word == "auto"]
    settled |= {name: chosen[name] for name in left_open}
    notes = []
    if left_open:
        words = ", ".join(f"{name} {settled[name]}" for name in left_open)
        kind = f"{'with' if bfloat16 else 'without'} bfloat16" if large else f"and images below {SMALLEST} pixels"
        why = f"{device} {kind}"
        notes.append(f"{words}: chosen for {why}; tests are in float32 whatever the precision of training")
    return Acceleration(settled["precision"], cast(MemoryFormat, settled["memory_format"]), notes)


def device_type(accelerator: str) -> str:
    """The kind of device that Lightning will take: "cpu", "cuda", "mps", or its own word for another."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else accelerator


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 (AVX-512 BF16, AMX) instead of converting back and forth."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def cuda_has_bfloat16() -> bool:
    """Whether every visible GPU has bfloat16 in hardware (Ampere and later)."""
    return all(torch.cuda.get_device_capability(number)[0] >= 8 for number in range(torch.cuda.device_count()))
