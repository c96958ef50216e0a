"""The command that asks a student for its answers: what the verdicts end with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from classmates._own_code import is_file_name
from classmates.runs.folder import stored_settings
from classmates.runs.student import read_card
from classmates.runs.task_spec import TaskSpec


def predict_command(run: str | Path, *flags: str, own_code: bool) -> str:
    """Return the command, with the flag that own code takes where there is some.

    Args:
        run: the student's folder, or hf:OWNER/NAME.
        flags: more of them.
        own_code: whether files of the user's own are run for it, which must be asked for.
    """
    trust = ["--trust_code true"] if own_code else []
    return " ".join(["classmates predict", shlex.quote(str(run)), "IMAGES", *flags, *trust])


def has_own_code(run: Path) -> bool:
    """Return whether a run's model or its task is somebody's own code."""
    task = stored_settings(run).get("task")
    name = task.get("class_path") if isinstance(task, Mapping) else task
    return is_file_name(read_card(run).model or "") or (isinstance(name, str) and not TaskSpec.is_ours(name))
