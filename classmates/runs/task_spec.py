"""A task's specification: its class and its options, from which it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from classmates.errors import UserError
from classmates.runs.folder import stored_settings
from classmates.runs.spec import Spec, class_path
from classmates.runs.trust import check_trusted
from classmates.tasks.classification import Classification
from classmates.tasks.task import Task

TaskLike = Task | Callable[[], Task] | str
"""A task, what makes one (a class, a ``TaskSpec``, a partial), or its name."""


@dataclass(frozen=True)
class TaskSpec(Spec):
    """A task's class and options; called, it makes the task."""

    noun: ClassVar[str] = "task"

    @classmethod
    def base(cls) -> type[Task]:
        return Task

    @classmethod
    def known(cls) -> dict[str, type[Task]]:
        return known_tasks()

    @classmethod
    def of(cls, thing: Any) -> Self | None:
        """Return the same as for any spec, and that of a task that is made already."""
        if isinstance(thing, Task):
            return cls(class_path(type(thing)), asdict(thing), _kind=type(thing))  # type: ignore[call-overload]
        return super().of(thing)


def known_tasks() -> dict[str, type[Task]]:
    """Return the tasks of this package by name."""
    from classmates.tasks.few_shot import FewShot  # here, so that runs of other tasks do not depend on its code

    return {kind.name: kind for kind in (Classification, FewShot)}


def task_of(given: TaskLike | Mapping[str, Any] | None) -> Task:
    """Make the task that is meant: one that is made already, what makes one, its name, or settings as YAML has them.

    None means classification: settings of earlier versions name no task.

    Raises:
        UserError: there is no such task, an option that it refuses, or something else was made.
    """
    if isinstance(given, Task):
        return given
    making = TaskSpec.of(Classification if given is None else given) or given
    made = making() if callable(making) else making
    if not isinstance(made, Task):
        raise UserError(f"task: {made!r} is no task; give one, such as classmates.FewShot(shot=5)")
    return made


def stored_task(run: Path, *, trust_code: bool) -> Task:
    """Make the task that the settings in a run's folder name.

    Args:
        run: the folder, which may be somebody else's.
        trust_code: run the Python file or module of a task that is none of this package's.

    Raises:
        UserError: such a task that is not trusted; or as ``task_of``.
    """
    given = stored_settings(run).get("task")
    name = given.get("class_path") if isinstance(given, Mapping) else given
    if isinstance(name, str) and not TaskSpec.is_ours(name):
        check_trusted(f"the task of the run in '{run}'", name, trusted=trust_code)
    return task_of(given)
