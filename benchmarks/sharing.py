"""Small runs that share one GPU: steps a second of one process and of several, with NVIDIA's MPS and without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pandas as pd
import torch

from benchmarks.harness import write
from benchmarks.pinning import cores, settings

CONTROL = "nvidia-cuda-mps-control"
STEP = """
import os, sys, time
os.sched_setaffinity(0, map(int, sys.argv[3].split(",")))  # else all are on the one core of who started them
import torch
from benchmarks.training_step import TrainingStep
from classmates.methods import MCL
from classmates.training.step_graph import How, StepGraph
step = TrainingStep(MCL, "resnet8", 48, samples=2000)
step()
graph = StepGraph(step.method, step.optimizer, How(step.autocast, None), step.batch)
start, steps = float(sys.argv[1]), 0
while time.time() < start:
    time.sleep(0.01)
while time.time() < start + float(sys.argv[2]):
    graph.replay(step.batch)
    torch.cuda.synchronize()
    steps += 1
print(steps / (time.time() - start))
"""
WARM_UP = 30.0
"""Seconds until all processes are ready."""


def main(out: Path, quick: bool) -> None:
    if not torch.cuda.is_available():
        print("sharing: there is no CUDA device here, so nothing is measured")
        return
    counts, seconds = ((1, 4), 2.0) if quick else ((1, 4, 8, 14), 5.0)
    rows = {f"{count} processes": together(count, seconds, os.environ) for count in counts}
    if which(CONTROL):
        with mps() as environment:
            rows |= {f"{count} processes, MPS": together(count, seconds, environment) for count in counts}
    frame = pd.DataFrame({"steps_per_second": {name: sum(speeds) for name, speeds in rows.items()}})
    frame["slowest_process"] = [min(speeds) for speeds in rows.values()]
    note = "Steps of MCL on ResNet-8 at batch 48, 3x32x32 images, as CUDA graphs, by processes that begin together."
    write(frame.rename_axis("name"), "sharing", out, note)


def together(count: int, seconds: float, environment: Mapping[str, str]) -> list[float]:
    """Return the steps a second of each of so many processes."""
    command = [sys.executable, "-c", STEP, str(time.time() + WARM_UP), str(seconds), ",".join(map(str, cores()))]
    unpinned = {name: value for name, value in environment.items() if name not in settings()}
    alone = {**unpinned, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(process.communicate()[0]) for process in running]


@contextmanager
def mps() -> Iterator[Mapping[str, str]]:
    """Yield the environment of processes that share the GPU by a server of NVIDIA's MPS, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **places}
        subprocess.run([CONTROL, "-d"], env=environment, check=True)
        try:
            yield environment
        finally:
            subprocess.run([CONTROL], input="quit\n", text=True, env=environment, check=False)
