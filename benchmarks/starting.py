"""What commands take that compute next to nothing: processor time, time, memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.harness import write
from benchmarks.pinning import cores, settings

EPOCH = ("--train.epochs", "1", "--train.train_size", "200", "--train.batch_size", "50", "--workers", "2")
COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "list methods": ("list", "methods"),
    "train --help": ("train", "--help"),
    "a mistyped flag": ("train", "--modle", "resnet8"),
    "data digits": ("data", "digits"),
    "compare, four runs of an epoch": (
        *("compare", "--methods", "Baseline,CSKD", "--models", "resnet8", "--data", "digits", "--seeds", "2"),
        *EPOCH,
    ),
}
"""What is typed after ``classmates``, by name; a command that trains gets a new folder for it."""


WATCH = """
import os, sys, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
began, quiet = time.perf_counter(), os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, quiet, stream) for stream in range(3)]
_, _, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions), 0)
print(usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024)
"""
"""Runs a command on some cores and prints what it used.

A process of its own, and a small one, for the peak of a new one begins at that of its maker.
"""


class Used(NamedTuple):
    """What a command used: seconds of processors, seconds, MiB of its largest process."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def main(out: Path, quick: bool) -> None:
    if not hasattr(os, "wait4"):
        print("starting: this system does not tell what a process has used, so nothing is measured")
        return
    write(
        measure(Path.cwd(), 1 if quick else 5),
        "starting",
        out,
        "Commands that compute next to nothing, each a new process: the medians of several calls. cpu_s: of all "
        "processors, with the processes it started. peak_mib: the largest of them.",
    )


def measure(tree: Path, rounds: int) -> pd.DataFrame:
    """Run every command of a checkout so many times, all of them in each round; return the medians by name."""
    took: dict[str, list[Used]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            took[name].append(used(tree, words))
    rows = {
        name: [statistics.median(column) for column in zip(*rounds_of, strict=True)]
        for name, rounds_of in took.items()
    }
    return (
        pd.DataFrame.from_dict(rows, orient="index", columns=Used._fields).rename_axis("name").assign(rounds=rounds)
    )


def used(tree: Path, words: Sequence[str]) -> Used:
    """Run one command of a checkout, and return what it used."""
    ours = {name: value for name, value in os.environ.items() if name not in settings()}
    on = ",".join(map(str, cores()))
    with tempfile.TemporaryDirectory() as folder:
        where = ["--out", f"{folder}/out"] if "--train.epochs" in words else []
        told = subprocess.run(
            [sys.executable, "-c", WATCH, on, sys.executable, "-m", "classmates", *words, *where],
            cwd=folder,
            env={**ours, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
    return Used(*map(float, told.stdout.split()))
