"""Where the time of a training step goes: its three largest costs, on whatever device there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import CASES, FAST
from benchmarks.harness import Function, device, write
from benchmarks.training_step import TrainingStep


def main(out: Path, quick: bool) -> None:
    settings: dict[str, Any] = FAST if device().type == "cuda" else {"memory_format": "channels_last"}
    costs = [
        {"name": name, **cost}
        for name, make, model, batch_size in (CASES[:1] if quick else CASES)
        for cost in largest_costs(TrainingStep(make, model, batch_size, **settings))
    ]
    write(
        pd.DataFrame(costs).set_index("name"),
        "costs",
        out,
        "The three operators that take the most time of their own in one plain step: on a GPU in bfloat16, else in "
        "float32, both channels-last. share: of all operators' time.",
    )


def largest_costs(step: Function) -> list[dict[str, object]]:
    """The three operators with the most time of their own on the device."""
    on_gpu = device().type == "cuda"
    step()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as recorded:
        step()
    # On a GPU kernels are events too, beside the operators that launched them and have their time.
    events = [event for event in recorded.key_averages() if event.device_type == DeviceType.CPU]
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    largest = sorted(events, key=lambda event: times[event.key], reverse=True)[:3]
    return [
        {
            "operator": event.key,
            "us": times[event.key],
            "calls": event.count,
            "share": times[event.key] / sum(times.values()),
        }
        for event in largest
    ]
