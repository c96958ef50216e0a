"""The files of a trained student, and where they lie."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = "student.safetensors"
CARD = "student.json"


def student_folder(path: Path) -> Path:
    """Return the folder of the student that a path means: its own, that of its weights, or what ``improve`` wrote.

    The path itself where there is no student.
    """
    folder = path.parent if path.name == WEIGHTS and path.is_file() else path
    within = folder / "student"
    return within if (within / CARD).is_file() and not (folder / CARD).is_file() else folder
