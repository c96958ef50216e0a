"""The verdict that stands beside a run: what it was compared with, as the command that compared them left it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "verdict.json"


@dataclass(frozen=True)
class Beside:
    """A verdict on a run among others.

    Args:
        text: the verdict.
        lines: what is to be said with it, a paragraph each.
        next: the command to go on with; may be empty.
    """

    text: str
    lines: list[str]
    next: str


def verdict_beside(folder: Path) -> Beside | None:
    """Read the verdict in a run's folder; None where there is none.

    One that cannot be read is a verdict that says so: the page of a run is written whatever lies beside it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return _read(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        return Beside(f"The verdict in {path} cannot be read: {error}.", [], "")


def _read(content: Any) -> Beside:
    """Return the verdict of a file's content; ValueError where it has another form."""
    if not isinstance(content, Mapping) or not isinstance(content.get("text"), str):
        raise ValueError("it has no text")
    lines = content.get("lines", [])
    if not isinstance(lines, list):
        raise ValueError(f"its lines are {lines!r}")
    return Beside(content["text"], [str(line) for line in lines], str(content.get("next") or ""))
