"""Code that a run's folder names, which may be somebody else's: run only where the user says that they trust it."""

from __future__ import annotations

from pathlib import Path

from classmates._own_code import code_hash, file_of, is_file_name
from classmates._progress import note
from classmates.errors import UserError


def check_trusted(what: str, name: str, *, trusted: bool) -> None:
    """Raise UserError unless the code that a run's folder names is trusted.

    Args:
        what: is built by it, such as "the student in 'runs/photos'".
        name: FILE.py:CLASS, FILE.py, or the path by which a class is imported.
        trusted: what the user says.
    """
    if not trusted:
        code = f"file '{file_of(name)}'" if is_file_name(name) else f"module '{name.rpartition('.')[0]}'"
        raise UserError(
            f"{what} is built by the Python {code}, which would be run: read it, and say --trust_code true if you "
            "trust it (in Python: trust_code=True)"
        )


def found_again(run: Path, model: str, code: str | None) -> str:
    """Return how a card's model, a Python file, is named now: where its file is gone, by one with the same content.

    Such a file is looked for by its name in the current folder, in the run's and in that which holds the run.
    """
    file, name = file_of(model), model.rpartition(":")[2]
    if file.is_file() or code is None:
        return model
    for folder in (Path(), run, run.parent):
        moved = f"{(folder / file.name).resolve()}:{name}"
        if file_of(moved).is_file() and code_hash(moved) == code:
            note(f"'{file}' is not there; '{file_of(moved)}', which is the same, is taken for it")
            return moved
    return model


def check_code(run: Path, model: str, code: str | None, *, trusted: bool) -> None:
    """Raise UserError unless the Python file of a card is trusted, and as it was in training where that is known."""
    check_trusted(f"the student in '{run}'", model, trusted=trusted)
    file = file_of(model)
    if not file.is_file():
        raise UserError(
            f"the student in '{run}' is built by '{file}', which is not there: put {file.name}, as it was in "
            "training, into the current folder or the run's, or give network=my_module, in Python"
        )
    if code is not None and file.is_file() and code_hash(model) != code:
        raise UserError(
            f"'{file}' has changed since it trained the student in '{run}': put back what it was, or build the "
            "network yourself and give it as network=my_module, in Python"
        )
