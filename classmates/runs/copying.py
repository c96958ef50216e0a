"""Copying the student of a finished run to where it is deployed from."""

from __future__ import annotations

import shutil
from filecmp import cmp
from pathlib import Path

from classmates._files import whole_file
from classmates._progress import note
from classmates.errors import UserError
from classmates.runs.exits import EXITS
from classmates.runs.prototypes import student_hash
from classmates.runs.student_files import CARD, WEIGHTS

RESULT = "result.json"
WRITTEN_OF_STUDENT = ("student*", "embedding*", "early_exit*", "exports.csv", EXITS)
"""What a student's folder may hold of it: its files, and what ``export`` writes there."""


def same_weights(run: Path, folder: Path) -> bool:
    """Return whether two folders have the same student, whatever their cards say of it."""
    try:
        return student_hash(run) == student_hash(folder)
    except UserError:  # that of the folder is damaged
        return False


def copy_student(run: Path, folder: Path) -> None:
    """Copy a run's student, settings and result, each file whole or not at all, in the place of an earlier one's.

    The same student stays as it is, with its temperature and its exports; those of another go.
    """
    there = all((folder / name).is_file() for name in (WEIGHTS, RESULT))
    if there and cmp(run / RESULT, folder / RESULT, shallow=False) and same_weights(run, folder):
        return
    exits = [EXITS] if (run / EXITS).exists() else []
    copied = (CARD, *exits, "config.yaml", WEIGHTS, RESULT)  # the record last: with it the student is whole
    for old in (path for pattern in WRITTEN_OF_STUDENT for path in folder.glob(pattern)):
        if old.is_file() and old.name not in copied:
            old.unlink()
            note(f"'{old}' is removed: it was of another student")
    for name in copied:
        with whole_file(folder / name) as path:
            shutil.copyfile(run / name, path)
