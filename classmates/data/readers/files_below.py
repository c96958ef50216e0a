"""The image files below a folder, found by the ends of their paths, as a table names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from classmates.data.readers.walking import NO_IMAGE, Walk, told_of_unreadable
from classmates.errors import UserError


class FilesBelow:
    """The image files below a folder. names: relative to it. notes: on what is none, or was followed.

    Raises UserError where a folder cannot be read.
    """

    def __init__(self, root: Path):
        walk = Walk(root)
        with told_of_unreadable():
            self.names, self.root = set(walk.images("")), root
        self.notes = walk.notes(besides=(NO_IMAGE,))
        self._by_end: dict[int, dict[str, list[str]]] = {}

    def ending(self, path: str) -> list[str]:
        """Return the files whose paths, or these without their extension, end with a path; one that is it, alone."""
        return [path] if path in self.names else self._ends(path.count("/") + 1).get(path, [])

    def named(self, wanted: Sequence[str], table: Path) -> tuple[list[str], list[str]]:
        """Return the file that each name of a table stands for, and notes; a name without one as it would lie here.

        Steps at the beginning of the names are left out, of all alike, until a file is found for one of them.

        Raises UserError for a name that may stand for two files.
        """
        steps = [steps_of(name) for name in wanted]
        for dropped in range(max(map(len, steps))):
            found = [self.ending("/".join(of_one[dropped:])) for of_one in steps]
            if any(found):
                break
        for name, files in zip(wanted, found, strict=True):
            if len(files) > 1:
                raise UserError(
                    f"{table} names '{name}', which may be {files[0]} or {files[1]} in {self.root}: write more of "
                    "its path, or its extension"
                )
        taken = next((name, files[0]) for name, files in zip(wanted, found, strict=True) if files)
        notes = [f"'{taken[0]}' of {table.name} is {taken[1]} here, and so for the others"] if dropped else []
        missing = ("/".join(step for step in of_one if step != "..") or "(no name)" for of_one in steps)
        return [files[0] if files else name for name, files in zip(missing, found, strict=True)], notes

    def _ends(self, steps: int) -> dict[str, list[str]]:
        """Return the files by so many last steps of their paths, with the extension and without."""
        if steps not in self._by_end:
            self._by_end[steps] = {}
            for name in sorted(self.names):
                last = name.split("/")[-steps:]
                for end in ("/".join(last), "/".join(last).rpartition(".")[0]):
                    if len(last) == steps:
                        self._by_end[steps].setdefault(end, []).append(name)
        return self._by_end[steps]


def steps_of(name: str) -> list[str]:
    """Return the steps of a path, as any system writes it."""
    return [step for step in name.replace("\\", "/").split("/") if step not in ("", ".")]
