"""The names by which the parts of a data set go: training, validation and test images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from classmates.errors import UserError

PARTS = ("train", "val", "test")
"""The parts of a data set."""

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""The parts by the words that name them, as on the Hugging Face Hub."""

_MEANINGLESS = ("", "set", "data", "dataset", "split", "image", "images", "imgs", "seg")


def part_of(name: str) -> str | None:
    """Return the part that a folder or split of this name holds, in any case: ``Training``, ``test_set``, ``Valid``.

    None where it is not named after a part.
    """
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word not in _MEANINGLESS]
    return WORDS.get(words[0].removesuffix("set")) if len(words) == 1 else None


def part_within(name: str) -> str | None:
    """Return the part that a word of this name says, whatever stands beside it: ``flowers_train``, ``test2017``.

    The first such word counts; digits part words only where there is none otherwise (``dev2_train``). None without.
    """
    for between in (r"[\W_]+", r"[\W\d_]+"):
        words = (word.removesuffix("set") for word in re.split(between, name.lower()))
        if part := next((WORDS[word] for word in words if word in WORDS), None):
            return part
    return None


def parts_among(names: Iterable[str], where: Path | str) -> tuple[dict[str, str], list[str]]:
    """Return the name of each part that there is, and the names that are none.

    Of several for one part, that is taken which is its very name (``test`` rather than ``eval``).

    Raises:
        UserError: there are several for a part, none of them by its very name.
    """
    found: dict[str, list[str]] = {}
    others = []
    for name in names:
        if part := part_of(name):
            found.setdefault(part, []).append(name)
        else:
            others.append(name)
    chosen = {}
    for part, several in found.items():
        if len(several) > 1 and part not in several:
            raise UserError(f"{where} has several parts for {part}: {', '.join(several)}; call the right one {part}")
        chosen[part] = part if part in several else several[0]
        others += [name for name in several if name != chosen[part]]
    return {part: chosen[part] for part in PARTS if part in chosen}, sorted(others)
