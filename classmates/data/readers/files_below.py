"""The image files below a folder, found by the ends of their paths, as a table names them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
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
        self._by_end: dict[tuple[int, Callable[[str], str]], dict[str, list[str]]] = {}

    def ending(self, path: str) -> list[str]:
        """Return the files whose paths, or these without their extension, end with a path; one that is it, alone.

        Where none is spelt as it is, those are returned that differ in capitals, or in how accents are written.
        """
        return self._spelt_so(path) or self._ends(_steps(path), _spelling_aside).get(_spelling_aside(path), [])

    def named(self, wanted: Sequence[str], table: Path) -> tuple[list[str], list[str]]:
        """Return the file that each name of a table stands for, and notes; a name without one as it would lie here.

        Steps at the beginning of the names are left out, of all alike, until a file is found for one of them.

        Raises UserError for a name that may stand for two files.
        """
        steps = [steps_of(name) for name in wanted]
        dropped = self._before(steps)
        paths = ["/".join(of_one[dropped:]) for of_one in steps]
        found = [self.ending(path) for path in paths]
        for name, files in zip(wanted, found, strict=True):
            if len(files) > 1:
                raise UserError(
                    f"{table} names '{name}', which may be {files[0]} or {files[1]} in {self.root}: write it as "
                    "that is written"
                )
        taken = next((name, files[0]) for name, files in zip(wanted, found, strict=True) if files)
        notes = [f"'{taken[0]}' of {table.name} is {taken[1]} here, and so for the others"] if dropped else []
        otherwise = [at for at, path in enumerate(paths) if found[at] and not self._spelt_so(path)]
        if otherwise:
            name, file = wanted[otherwise[0]], found[otherwise[0]][0]
            notes.append(f"names of {table.name} in another spelling: {len(otherwise)}, such as '{name}' for {file}")
        missing = ("/".join(step for step in of_one if step != "..") or "(no name)" for of_one in steps)
        return [files[0] if files else name for name, files in zip(missing, found, strict=True)], notes

    def _before(self, steps: Sequence[list[str]]) -> int:
        """Return how many steps at the beginning to leave out so that a file is found, by its spelling if one is."""
        most = max(map(len, steps))
        for find in (self._spelt_so, self.ending):
            for dropped in range(most):
                if any(find("/".join(of_one[dropped:])) for of_one in steps):
                    return dropped
        return most - 1

    def _spelt_so(self, path: str) -> list[str]:
        """Return the files that end with a path as it is spelt."""
        return [path] if path in self.names else self._ends(_steps(path), str).get(path, [])

    def _ends(self, steps: int, spelling: Callable[[str], str]) -> dict[str, list[str]]:
        """Return the files by so many last steps of their paths, in a spelling, with the extension and without."""
        if (steps, spelling) not in self._by_end:
            ends = self._by_end[steps, spelling] = {}
            for name in sorted(self.names):
                last = spelling(name).split("/")[-steps:]
                for end in ("/".join(last), "/".join(last).rpartition(".")[0]):
                    if len(last) == steps:
                        ends.setdefault(end, []).append(name)
        return self._by_end[steps, spelling]


def _spelling_aside(name: str) -> str:
    """Return a name without what systems change when files are copied: its capitals, and how accents are written."""
    return unicodedata.normalize("NFC", name.casefold())


def _steps(path: str) -> int:
    return path.count("/") + 1


def steps_of(name: str) -> list[str]:
    """Return the steps of a path, as any system writes it."""
    return [step for step in name.replace("\\", "/").split("/") if step not in ("", ".")]
