"""The places where runs of a comparison are made: this process, processes of their own, or a Ray cluster.

All of them do the same: claim a run in the ledger, train, note a failure. So any number of them, on any machine that
sees the folder, share the work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from select import select
from typing import Any, Protocol

import torch

from classmates._signals import how_it_ended
from classmates.errors import UserError, check_choice
from classmates.experiments.identity import code_version, config_hash
from classmates.experiments.ledger import Ledger
from classmates.experiments.plan import Job
from classmates.experiments.worker import ELSEWHERE
from classmates.runs.folder import note_places
from classmates.training.config import Place
from classmates.training.result import Result
from classmates.training.resuming import resumable
from classmates.training.train import train

GRACE = 20.0
"""Seconds that a process has to end when it is asked to; it has no checkpoint to write, but a GPU to leave."""


def run_job(
    folder: Path,
    name: str,
    callbacks: Sequence[Any] = (),
    make: Callable[..., Result] | None = None,
) -> bool:
    """Make one run of the ledger in this process, or goes on with it from its last checkpoint.

    Args:
        folder: of the comparison.
        name: of the run.
        callbacks: of Lightning, for this run.
        make: what trains, with the arguments of ``train``; ``train`` itself if not given.

    Returns:
        False where another process has it; True otherwise, whether it came out or failed, which the ledger knows.
    """
    ledger = Ledger(folder)
    job = ledger.job(name)
    with ledger.claim(job) as mine:
        if not mine:
            return False
        if ledger.result(job) is not None:
            return True
        ledger.forget_failure(job)
        try:
            typed = job.typed
            if code_version(job.settings) != job.identity.code:
                raise UserError("the code has changed since this comparison began: give its command again")
            if config_hash(job.settings) != job.identity.config:
                raise UserError(
                    "a file that the settings name has changed since: give the comparison's command again"
                )
            if typed["devices"] == "auto":  # all of them would be several processes that want this one run
                typed["devices"] = 1
            with ledger.log(job).open("a") as log, redirect_stdout(log), redirect_stderr(log):
                out = ledger.run_folder(job)
                if resume := resumable(out):
                    note_places(out, job.settings)
                (make or train)(**typed | {"out": out, "resume": resume}, callbacks=callbacks)
        except Exception as error:
            ledger.note_failure(job, error)
    return True


class Workers(Protocol):
    """Something that runs jobs of a ledger, several at a time.

    free: how many more it can take now. start: begins a run. ended: the runs that ended since it was asked, each with
    False where another process had it. stop: ends what is still running.
    """

    @property
    def free(self) -> int: ...

    def start(self, job: Job) -> None: ...

    def ended(self) -> list[tuple[Job, bool]]: ...

    def stop(self) -> None: ...


class ThisProcess:
    """One run after the other, here."""

    free = 1

    def __init__(self, ledger: Ledger):
        self.folder = ledger.folder
        self.done: list[tuple[Job, bool]] = []

    def start(self, job: Job) -> None:
        self.done.append((job, run_job(self.folder, job.name)))

    def ended(self) -> list[tuple[Job, bool]]:
        done, self.done = self.done, []
        return done

    def stop(self) -> None:
        """Do nothing: a run has ended when ``start`` returns."""


class Processes:
    """Each run in a process of its own: its peak memory is its own, and its crash is nobody else's.

    They share the cores; each has one of the GPUs, in turn, so that small runs share one. They end when this process
    does, however it ends: each waits for the end of a pipe from it.

    Args:
        ledger: of the comparison.
        count: how many at a time.
    """

    def __init__(self, ledger: Ledger, count: int):
        gpus, threads = visible_gpus(), str(max(1, torch.get_num_threads() // count))
        self.ledger = ledger
        self.slots: list[Slot] = []
        for number in range(count):
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            # CUDA does not survive a fork, nor do libraries of macOS.
            forks = not gpus and sys.platform == "linux"
            self.slots.append(Slot(ledger, {**os.environ, "OMP_NUM_THREADS": threads, **gpu}, forks=forks))

    @property
    def free(self) -> int:
        return sum(slot.job is None for slot in self.slots)

    def start(self, job: Job) -> None:
        next(slot for slot in self.slots if slot.job is None).start(job)

    def ended(self) -> list[tuple[Job, bool]]:
        found = []
        for slot in self.slots:
            job, code = slot.job, slot.code()
            if job is None or code is None:
                continue
            if code not in (0, ELSEWHERE):
                how = how_it_ended(code)
                self.ledger.note_failure(job, f"its process {how}; see its log; the same command goes on with it")
            found.append((job, code != ELSEWHERE))
        return found

    def stop(self) -> None:
        running = [slot.process for slot in self.slots if slot.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            with process:  # closes its pipes
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()


class Slot:
    """A place for one run at a time.

    Args:
        ledger: of the comparison.
        environment: of its processes.
        forks: whether one process serves all runs and forks for each, so that imports are made once, or each run is a
            new process.
    """

    def __init__(self, ledger: Ledger, environment: Mapping[str, str], *, forks: bool):
        self.ledger, self.environment, self.forks = ledger, environment, forks
        self.process: subprocess.Popen[bytes] | None = None
        self.job: Job | None = None

    def start(self, job: Job) -> None:
        """Begin a run."""
        self.job = job
        if self.process is None:
            command = [sys.executable, "-m", "classmates.experiments.worker", str(self.ledger.folder)]
            with self.ledger.log(job).open("ab") as log:
                self.process = subprocess.Popen(
                    command if self.forks else [*command, job.name],
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if self.forks else log,
                    stderr=log,
                    bufsize=0,
                )
        if self.forks:
            assert self.process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, which ``code`` will tell
                self.process.stdin.write(f"{job.name}\n".encode())

    def code(self) -> int | None:
        """Return the exit code of the run, once, when it has ended; else None."""
        if self.process is None or self.job is None:
            return None
        code = self.process.poll()
        if self.process.stdout is not None and select([self.process.stdout], [], [], 0)[0]:
            line = self.process.stdout.readline()
            code = int(line) if line else self.process.wait()
        if code is not None:
            self.job = None
        if self.process.poll() is not None:
            with self.process:  # closes its pipes
                self.process = None
        return code


def check_place(place: Place, count: int, devices_per_run: int, gpus_per_run: float) -> None:
    """Raise UserError for numbers of runs at a time, and of devices of each, that do not go with the place."""
    check_choice("place", place, Place)
    if count < (1 if place == "ray" else 0):
        raise UserError(f"workers={count}: give 1 or more, or on this machine 0 for runs in this process")
    if devices_per_run < 1:
        raise UserError(f"devices_per_run={devices_per_run}: processes of each run, 1 or more")
    if devices_per_run > 1 and place != "ray":
        raise UserError(f"devices_per_run={devices_per_run}: only on Ray has a run several: add --on ray")
    if devices_per_run > 1 and gpus_per_run != 1:
        raise UserError(
            f"gpus_per_run={gpus_per_run:g} and devices_per_run={devices_per_run}: each process of a run has a GPU "
            "of its own: leave one of the two out"
        )


def workers_on(place: Place, ledger: Ledger, count: int, devices_per_run: int, gpus_per_run: float) -> Workers:
    """Return the place where runs are made: "here" (0: in this process) or on "ray"; ``count`` of them at a time.

    Raises:
        UserError: Ray is not there.
    """
    if place == "ray":
        from classmates.experiments.ray_workers import RayTasks  # an optional extra

        return RayTasks(ledger, count, devices_per_run, gpus_per_run)
    return Processes(ledger, count) if count else ThisProcess(ledger)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]
