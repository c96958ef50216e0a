"""On a GPU: whole steps eager, compiled and as one CUDA graph; how far from the peak."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from benchmarks.harness import Function, counts, flops, interleave, milliseconds, peak_memory, write
from benchmarks.training_step import Make, TrainingStep
from classmates.methods import CORSD, MCL, Baseline
from classmates.training.step_graph import How, StepGraph

FAST = {"precision": "bf16-mixed", "memory_format": "channels_last"}
CASES: tuple[tuple[str, Make, str, int], ...] = (
    ("Baseline, ResNet-32", Baseline, "resnet32", 64),
    (
        "MCL, every negative, ResNet-32",
        partial(MCL, negatives="all", normaliser="lagged", bank_dtype="bfloat16"),
        "resnet32",
        64,
    ),
    ("Baseline, ResNet-18", Baseline, "resnet18_cifar", 129),
    ("CORSD, reduced, ResNet-18", partial(CORSD, projection="reduced"), "resnet18_cifar", 129),
)


def main(out: Path, quick: bool) -> None:
    if not torch.cuda.is_available():
        print("gpu: there is no CUDA device here, so nothing is measured")
        return
    frames = []
    peak = peak_flops()
    for name, make, model, batch_size in CASES:
        plain = TrainingStep(make, model, batch_size)
        steps: dict[str, Function] = {"eager float32": plain}
        steps |= {way: prepare(make, model, batch_size) for way, prepare in ways(quick)}
        frame = interleave(steps, rounds=3 if quick else 20)
        seconds = frame["median_ms"] / 1000
        frame["images_per_second"] = batch_size / seconds
        frame["share_of_peak"] = flops(plain) / seconds / peak
        frame["peak_mib"] = [peak_memory(step) for step in steps.values()]
        frame["operations"] = counts(plain).operations
        frame["synchronisations"] = [synchronisations(step) for step in steps.values()]
        frame.index = pd.Index([f"{name}, {way}" for way in steps], name="name")
        frames.append(frame)
    write(
        pd.concat(frames),
        "gpu",
        out,
        f"Whole training steps, 3x32x32 images, N = 50,000. share_of_peak is of the {peak / 1e12:.0f} TFLOP/s that a "
        "bfloat16 matrix product reached here; operations are the eager step's; synchronisations those CUDA saw.",
    )


def ways(quick: bool) -> Iterable[tuple[str, Callable[[Make, str, int], Function]]]:
    """How a step may be run, by name."""
    yield "bfloat16, channels-last", partial(TrainingStep, **FAST)  # type: ignore[arg-type]
    yield "CUDA graph", lambda *case: graphed(TrainingStep(*case, **FAST))  # type: ignore[arg-type]
    if not quick:
        yield "compiled", partial(TrainingStep, compiled=True, **FAST)  # type: ignore[arg-type]


def graphed(step: TrainingStep) -> Function:
    """The whole step, update included, as training replays it: on another batch of the same shape."""
    step()
    graph = StepGraph(step.method, step.optimizer, How(step.autocast, None), step.batch)
    return lambda: graph.replay(step.batch) and None


def synchronisations(step: Function) -> int:
    """How often CUDA made the host wait for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def peak_flops() -> float:
    """FLOP/s of a large matrix product in bfloat16."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    best = min(milliseconds(lambda: square @ square) for _ in range(20))
    return 2 * 8192**3 / best * 1000
