"""A comparison's folder: what was planned, what is running, done or failed. Files only, so that any process can look.

comparison.yaml         the recipe and the names of its runs
jobs/NAME.yaml          one run: all its settings, and hashes of them, of the code and of the data
jobs/NAME.lock          held by the process that runs it, let go by the system when that process ends, however
jobs/NAME.log           what it printed
jobs/NAME.failure.json  why it failed
runs/NAME/              the run's own folder, as ``train`` leaves it
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from classmates._files import RESTING, regular_text, remove_unfinished, require_writable, write_text
from classmates._yaml import read_yaml
from classmates.comparisons.recipe import Recipe, read
from classmates.data.loading import refuse_among_classes
from classmates.errors import UserError
from classmates.experiments.plan import Job
from classmates.runs.folder import read_record
from classmates.runs.record import RunRecord

Status = Literal["done", "running", "failed", "interrupted", "waiting"]


class Ledger:
    """The files of a comparison.

    Args:
        folder: where they are. Processes on several machines may share it, if its file system has locks (flock).
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.comparison = self.folder / "comparison.yaml"
        self.jobs = self.folder / "jobs"
        self.runs = self.folder / "runs"

    # The plan

    def check_place(self, jobs: Sequence[Job]) -> None:
        """Raise UserError where the folder lies among the images of a run, which would take it for a class."""
        for data, data_dir in {(job.settings["data"], job.settings["data_dir"]) for job in jobs}:
            refuse_among_classes(self.folder, data, data_dir)

    def write_plan(self, recipe: Recipe, jobs: Sequence[Job]) -> None:
        """Note what is compared, and its runs; what killed processes have left half-written is removed."""
        remove_unfinished(self.jobs, resting=RESTING)
        self.add(jobs)
        write_text(self.comparison, _yaml({"recipe": recipe.plain(), "runs": [job.name for job in jobs]}))

    def add(self, jobs: Sequence[Job]) -> None:
        """Note runs as they are asked for now: what is no part of their identity may have changed, such as paths.

        Raises:
            UserError: the folder cannot be written to.
        """
        require_writable(self.comparison)
        for job in jobs:
            file, text = self._job(job.name), _yaml(job.plain())
            if not file.exists() or (file.read_text(encoding="utf-8") != text and not self.is_running(job)):
                write_text(file, text)

    def read_plan(self) -> tuple[Recipe, list[Job]]:
        """Return the recipe and its runs; UserError where the folder holds no comparison."""
        if not self.comparison.is_file():
            raise UserError(f"'{self.folder}' holds no comparison (there is no comparison.yaml in it)")
        plan = read_yaml(self.comparison, f"'{self.comparison}'")
        if not isinstance(plan, dict) or not {"recipe", "runs"} <= plan.keys():
            raise UserError(f"'{self.comparison}' is damaged: the same `classmates compare` command writes it again")
        return read(plan["recipe"], str(self.comparison)), [self.job(name) for name in plan["runs"]]

    def job(self, name: str) -> Job:
        """Return the run of this name; UserError where its file is damaged."""
        try:
            return Job.read(read_yaml(self._job(name), f"'{self._job(name)}'"), name)
        except (TypeError, KeyError) as error:
            raise UserError(f"'{self._job(name)}' is damaged: remove it, and compare writes it again") from error

    def every_job(self) -> list[Job]:
        """Return every run that was ever planned here."""
        return [self.job(path.stem) for path in sorted(self.jobs.glob("[!.]*.yaml"))]

    def same_elsewhere(self, job: Job) -> Job | None:
        """Return the newest finished run with the same settings and data by other code; None where there is none.

        Its model and data have the names that ``job`` has for them: it may be of another folder's name.
        """
        wanted = (job.row, job.identity.config, job.identity.data)
        same = [one for one in self.every_job() if (one.row, one.identity.config, one.identity.data) == wanted]
        finished = [(record.finished, one) for one in same if (record := self.result(one)) is not None]
        if not finished:
            return None
        newest = max(finished, key=lambda pair: pair[0])[1]
        named = replace(newest, model=job.model, data=job.data)
        return named if named.name == newest.name else replace(named, given_name=newest.name)

    # The state of a run

    def status(self, job: Job) -> Status:
        if self.is_running(job):
            return "running"
        if self.result(job) is not None:
            return "done"
        if self.failure(job) is not None:
            return "failed"
        return "interrupted" if self.run_folder(job).exists() else "waiting"

    def result(self, job: Job) -> RunRecord | None:
        """Return what the run's ``result.json`` holds; None where the run has not come to its last epoch."""
        record = self.read_result(job)
        return record if record is not None and record.complete and record.epochs == job.epochs else None

    def read_result(self, job: Job) -> RunRecord | None:
        """Return the same for a run that ended early too; None where there is no whole file."""
        return read_record(self.run_folder(job) / "result.json")

    def failure(self, job: Job) -> dict[str, Any] | None:
        """Return why the last attempt failed (error, traceback, time, host), or that its result is cut off."""
        try:
            failure = dict(json.loads(regular_text(self._failure(job))))
            return {"error": "it failed, and the file that says why is damaged", **failure}
        except (OSError, ValueError, TypeError):
            pass
        if (self.run_folder(job) / "result.json").exists() and self.read_result(job) is None:
            return {"error": "its result.json is cut off or damaged; the next `classmates compare` repeats the run"}
        return None

    def is_accounted_for(self, job: Job) -> bool:
        """Return whether an attempt has left a result, of however many epochs, or the reason why there is none."""
        return self.read_result(job) is not None or self.failure(job) is not None

    def is_running(self, job: Job) -> bool:
        """Return whether some process is at it."""
        if not self._lock(job).exists():
            return False
        with self._lock(job).open("r") as file:
            return not _lock(file.fileno(), fcntl.LOCK_SH)

    @contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """Make the run this process's own; gives False where it is another's."""
        self.jobs.mkdir(parents=True, exist_ok=True)
        with self._lock(job).open("a") as file:
            mine = _lock(file.fileno(), fcntl.LOCK_EX)
            if mine:
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": _now()}))
                file.flush()
            yield mine

    def note_failure(self, job: Job, error: BaseException | str) -> None:
        """Keep why a run failed."""
        name = type(error).__name__ if isinstance(error, BaseException) else "Killed"
        trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        failure = {"error": f"{name}: {error}", "traceback": trace, "time": _now(), "host": platform.node()}
        write_text(self._failure(job), json.dumps(failure, indent=2, ensure_ascii=False))

    def forget_failure(self, job: Job) -> None:
        self._failure(job).unlink(missing_ok=True)

    def run_folder(self, job: Job) -> Path:
        return self.runs / job.name

    def log(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.log"

    def _job(self, name: str) -> Path:
        return self.jobs / f"{name}.yaml"

    def _lock(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.lock"

    def _failure(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.failure.json"


def _lock(file: int, kind: int) -> bool:
    """Take a lock without waiting; False where another process has it. It ends when the file is closed."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"this folder's file system has no locks ({error.strerror}): choose another --out") from error
    return True


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
