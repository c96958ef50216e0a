"""Measures candidates against each other: interleaved times, memory, counts; and writes them down."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch
from pandas.api.types import is_numeric_dtype

from benchmarks.counting import Counts, Function, counts, device, flops, peak_memory, saved_bytes
from classmates._files import whole_file
from classmates.training.environment import environment

__all__ = ["Counts", "Function", "counts", "device", "flops", "interleave", "peak_memory", "saved_bytes", "write"]

DISTURBED = 1.35  # times the best canary: something else was running


def interleave(
    candidates: Mapping[str, Function],
    *,
    rounds: int,
    reference: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> pd.DataFrame:
    """Times of the candidates, a call of each in every round, so that all see the same state of the machine.

    Each is called once beforehand, unmeasured. Before every round a fixed matrix product is timed, the canary; rounds
    in which it took more than ``DISTURBED`` times its best are dropped. On a GPU times are those of its own events.

    Args:
        candidates: what is called, by name.
        rounds: how many, 1 or more.
        reference: the name of the candidate that ``ratio`` is relative to; the first if not given.
        clock: in seconds; ``time.process_time`` is for what happens on processors alone.

    Returns:
        A row a candidate, the index ``name``: ``median_ms``, ``min_ms``, ``max_ms``, ``ratio`` (the median over
        rounds of the time divided by the reference's in the same round) and ``rounds``, how many were kept.
    """
    for function in candidates.values():
        function()
    canary, canaries = make_canary(), []
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        canaries.append(min(milliseconds(canary, clock) for _ in range(3)))
        for name, function in candidates.items():
            times[name].append(milliseconds(function, clock))
    calm = [number for number, took in enumerate(canaries) if took <= DISTURBED * min(canaries)]
    base = times[reference or next(iter(candidates))]
    rows = {
        name: {
            "median_ms": statistics.median(took[i] for i in calm),
            "min_ms": min(took[i] for i in calm),
            "max_ms": max(took[i] for i in calm),
            "ratio": statistics.median(took[i] / base[i] for i in calm),
            "rounds": len(calm),
        }
        for name, took in times.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def make_canary() -> Function:
    """A matrix product of a few milliseconds on a CPU, which always costs the same on a machine at rest."""
    square = torch.randn(768, 768, device=device())
    return lambda: square @ square


def milliseconds(function: Function, clock: Callable[[], float] = time.perf_counter) -> float:
    """How long one call takes; on a GPU by its own events, unless another clock is asked for."""
    if device().type == "cuda" and clock is time.perf_counter:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    began = clock()
    function()
    return (clock() - began) * 1000


def write(frame: pd.DataFrame, name: str, out: Path, note: str) -> None:
    """Writes ``frame`` to out/NAME.csv, and to out/NAME.md as a table with ``note``, machine, versions and command.

    Both are also printed, so that whoever waits sees what came out.
    """
    where = environment(device())
    started = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m benchmarks.before` it is that module
    module = started.name if started is not None and started.name.startswith("benchmarks.") else "benchmarks"
    command = " ".join([f"python -m {module.removesuffix('.__main__')}", *sys.argv[1:]])
    machine = f"{where['accelerator'] if device().type == 'cuda' else where['cpu']}, {where['threads']} threads"
    versions = ", ".join(f"{package} {where[package]}" for package in ("classmates", "torch", "python"))
    text = f"{note}\n\n{markdown(frame)}\n\nMeasured with `{command}` on {machine}; {versions}; {where['commit']}.\n"
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / f"{name}.csv") as path:
        frame.to_csv(path)
    with whole_file(out / f"{name}.md") as path:
        path.write_text(f"# {name.replace('_', ' ').replace('-', ' ').capitalize()}\n\n{text}", encoding="utf-8")
    print(text, flush=True)


def markdown(frame: pd.DataFrame) -> str:
    """The frame with its index as a Markdown table, numbers to three or four figures."""
    table = frame.reset_index()
    lines = [list(map(str, table.columns)), ["---:" if is_numeric_dtype(kind) else "---" for kind in table.dtypes]]
    lines += [[cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    """A value as it stands in a table; nothing where there is none."""
    if isinstance(value, float):
        if pd.isna(value):
            return ""
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
