"""A run goes on with the code of its owner's that it began with, or is told that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from classmates._own_code import file_of, is_file_name
from classmates._sources import Source, beside
from classmates.data.fingerprints import digest
from classmates.errors import UserError
from classmates.runs.plain_values import texts


class SameCode(Callback):
    """Keeps a hash of the code that a run's settings name by its file, and compares it where the run goes on.

    Such are a network, a method and an augmentation of the user's own, ``FILE.py:NAME``, with the files beside it
    that it imports. Docstrings, comments and layout do not count.

    Args:
        settings: every argument of ``train``, as plain values.

    Raises:
        UserError: it was changed since.
    """

    def __init__(self, settings: Mapping[str, Any]):
        named = sorted({name for name in texts(settings) if is_file_name(name) and file_of(name).is_file()})
        self.hashes = {name: digest(*code_of(file_of(name))) for name in named}

    def state_dict(self) -> dict[str, Any]:
        return {"hashes": self.hashes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        before = state["hashes"]
        changed = [name for name, found in self.hashes.items() if before.get(name) != found]
        if changed:
            files = ", ".join(dict.fromkeys(f"'{file_of(name)}'" for name in changed))
            raise UserError(
                f"{files}: not the code that the run began with: put it back as it was, or start another run with "
                "--out"
            )


def code_of(file: Path) -> list[str]:
    """Return the code of a file and of those beside it that it imports."""
    source = Source(file)
    return [source.code, *sorted(other.code for other in beside([source]))]
