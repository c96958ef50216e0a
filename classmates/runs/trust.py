"""Code that a run's folder names, which may be somebody else's: run only where the user says that they trust it."""

from __future__ import annotations

from pathlib import Path

from classmates._own_code import code_hash, file_of, is_file_name
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


def check_code(run: Path, model: str, code: str | None, *, trusted: bool) -> None:
    """Raise UserError unless the Python file of a card is trusted, and as it was in training where that is known."""
    check_trusted(f"the student in '{run}'", model, trusted=trusted)
    file = file_of(model)
    if code is not None and file.is_file() and code_hash(model) != code:
        raise UserError(
            f"'{file}' has changed since it trained the student in '{run}': put back what it was, or build the "
            "network yourself and give it as network=my_module, in Python"
        )
