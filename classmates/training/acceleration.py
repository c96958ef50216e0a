"""Precision and memory format: timed on the network at hand where the user leaves them open, and always said."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import product
from typing import Literal, NamedTuple, cast, get_args

import torch
from filelock import FileLock
from torch import nn

from classmates._files import whole_file
from classmates._machine import cpu_name, has_bfloat16, require_kernels, wait_for
from classmates._progress import note
from classmates.data.readers.cache import cache_folder
from classmates.errors import UserError, first_line, unknown
from classmates.training.faster_convolutions import faster_convolutions

MemoryFormat = Literal["auto", "contiguous", "channels_last"]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
COMPUTED = 3
"""Counts the ways in which a step has been computed, so that timings of an earlier one are not taken for today's."""
WARM_UP, TIMED = 1, 4
"""Rounds of one step of each candidate: the first ones are slower."""
CLEARLY = 0.9
"""A candidate must take less than this share of a plainer one's time; a smaller gain is noise, and not worth it."""


class Acceleration(NamedTuple):
    """precision: as Lightning names it. memory_format: a key of ``FORMATS``. notes: what was chosen, and why."""

    precision: str
    memory_format: MemoryFormat
    notes: list[str]


def choose(
    precision: str,
    memory_format: MemoryFormat,
    accelerator: str,
    network: nn.Module,
    input_shape: tuple[int, int, int],
    batch_size: int,
    devices: int | str = 1,
) -> Acceleration:
    """Put the fastest in the place of each "auto", timed over a few training steps of the network; keep other words.

    "bf16-mixed" is tried only where the device multiplies in bfloat16; without such instructions it takes many times
    as long. The timings are kept in the cache, so that every run of a network on a machine is computed alike,
    whatever its batches: the rows of a comparison may have batches of their own.

    Args:
        precision: "auto" or any of Lightning's words.
        memory_format: "auto", "contiguous" or "channels_last".
        accelerator: as Lightning names it.
        network: the student; a copy of it is timed.
        input_shape: (C, H, W) of an image.
        batch_size: images a step of a process, where it has to be timed.
        devices: as Lightning names them; the first one takes the time.

    Raises:
        UserError: an unknown memory format, a GPU that this PyTorch was not built for, or a step that fits into its
            memory in no way.
    """
    if memory_format not in get_args(MemoryFormat):
        raise unknown("memory_format", memory_format, get_args(MemoryFormat))
    device = device_type(accelerator)
    if device == "cuda":
        require_kernels(first_device(device, devices))
    bfloat16 = device in ("cpu", "cuda") and has_bfloat16(torch.device(device))
    precisions = [precision] if precision != "auto" else ["32-true", *(["bf16-mixed"] if bfloat16 else [])]
    formats = [memory_format] if memory_format != "auto" else [*FORMATS]
    candidates = list(product(precisions, formats))
    open_settings = [
        name for name, word in (("precision", precision), ("memory_format", memory_format)) if word == "auto"
    ]
    if not open_settings:
        return Acceleration(precision, memory_format, [])
    if device not in ("cpu", "cuda") or len(candidates) == 1:
        found, why = candidates[0], f"on {device} there is nothing else to try"
    else:
        milliseconds = timings(network, input_shape, batch_size, first_device(device, devices), candidates)
        found, why = fastest(milliseconds), said(milliseconds)
    settled = dict(zip(("precision", "memory_format"), found, strict=True))
    words = ", ".join(f"{name} {settled[name]}" for name in open_settings)
    note = f"{words}: {why}; tests are in float32 whatever the precision of training"
    return Acceleration(found[0], cast(MemoryFormat, found[1]), [note])


def fastest(milliseconds: dict[tuple[str, str], float]) -> tuple[str, str]:
    """Return the first, plainest candidate that no other is clearly faster than."""
    least = min(milliseconds.values())
    return next(candidate for candidate, taken in milliseconds.items() if least >= CLEARLY * taken)


def said(milliseconds: dict[tuple[str, str], float]) -> str:
    """Say what each candidate took, the fastest first, and why that is not taken where it is not."""
    ranked = sorted(milliseconds.items(), key=lambda item: item[1])
    taken = ", ".join(
        f"{' '.join(names)} {'does not fit' if value == math.inf else f'{value:.1f}'}" for names, value in ranked
    )
    plainest = "" if fastest(milliseconds) == ranked[0][0] else " (the plainest that none is a tenth faster than)"
    return f"measured, ms a step: {taken}{plainest}"


def timings(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
    candidates: Sequence[tuple[str, str]],
) -> dict[tuple[str, str], float]:
    """Return a training step's milliseconds by (precision, memory format), from the cache if measured before.

    Of processes that want the same at the same time one measures, and the others wait for it. The network, the random
    state and the BatchNorm statistics stay as they are.
    """
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    key = [COMPUTED, hardware, torch.get_num_threads(), torch.__version__, type(network).__name__, input_shape]
    digest = hashlib.sha256(json.dumps([*key, shapes], default=str).encode()).hexdigest()
    name = f"speed-{digest[:24]}.json"
    known: dict[str, float] = {}
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError, ValueError):  # no cache, or none that can be read: measured again
            cache_folder().mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache_folder() / f"{name}.lock"))
            known = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
        if any(" ".join(candidate) not in known for candidate in candidates):
            with torch.random.fork_rng(range(torch.cuda.device_count()) if device.type == "cuda" else ()):
                taken = _time_steps(network, input_shape, batch_size, device, candidates)
            known |= {" ".join(candidate): value for candidate, value in zip(candidates, taken, strict=True)}
            keep(name, {candidate: value for candidate, value in known.items() if value != math.inf})
    return {candidate: known[" ".join(candidate)] for candidate in candidates}


def keep(name: str, known: Mapping[str, float]) -> None:
    """Write timings into the cache folder; note where that cannot be."""
    try:
        with whole_file(cache_folder() / name) as path:
            path.write_text(json.dumps(known), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        note(
            f"the times of precision and memory_format cannot be kept ({first_line(error)}): every process measures "
            "anew, and may choose otherwise. Say --precision and --memory_format, or set CLASSMATES_CACHE to a "
            "folder that can be written"
        )


def _time_steps(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
    candidates: Sequence[tuple[str, str]],
) -> list[float]:
    """Measure the least milliseconds of each candidate's forward and backward pass on noise; infinite if none fits.

    A round takes a step of each: what else runs on the machine for a while then slows all of them, not one.

    Raises:
        UserError: no candidate's step fits into the GPU's memory.
    """
    steps = [_step(network, input_shape, batch_size, device, *candidate) for candidate in candidates]
    rounds = [[_or_inf(step) for step in steps] for _ in range(WARM_UP + TIMED)]
    taken = [min(of_one) for of_one in zip(*rounds[WARM_UP:], strict=True)]
    if min(taken) == math.inf:
        raise UserError(
            f"a step of {batch_size} images does not fit into the GPU's memory: give a smaller --batch_size or "
            "--image_size, or --recompute all"
        )
    return taken


def _or_inf(step: Callable[[], float]) -> float:
    """Return a step's milliseconds, infinite where the memory is not enough for it."""
    try:
        return step()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return math.inf


def _step(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
    precision: str,
    memory_format: str,
) -> Callable[[], float]:
    """Return what takes a step of a copy of the network and returns its milliseconds."""
    how = FORMATS[memory_format]
    tried = copy.deepcopy(network).to(device).to(memory_format=how).train()
    images = torch.randn(batch_size, *input_shape, device=device).to(memory_format=how)
    dtype = {"bf": torch.bfloat16, "16": torch.float16}.get(precision[:2])
    convolutions = faster_convolutions(tried, device.type, precision)

    def step() -> float:
        started = time.perf_counter()
        with convolutions:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = tried(images).float().square().mean()
            loss.backward()
        wait_for(device)
        taken = 1000 * (time.perf_counter() - started)
        tried.zero_grad()
        return taken

    return step


def first_device(device: str, devices: int | str) -> torch.device:
    """Return the first device that Lightning will take: the one of that number where numbers are given ("1,3")."""
    number = str(devices).partition(",")[0] if device == "cuda" and "," in str(devices) else ""
    return torch.device(device, int(number)) if number.isdecimal() else torch.device(device)


def device_type(accelerator: str) -> str:
    """Return the kind of device that Lightning will take: "cpu", "cuda", "mps", or its own word for another."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else accelerator
