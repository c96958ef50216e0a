"""The image files below a folder, and what else lies there."""

from __future__ import annotations

import os
from pathlib import Path

from classmates.data.readers.images import EXTENSIONS
from classmates.errors import UserError

Identity = tuple[int, int]
"""Device and inode: the same folder, whatever path leads to it."""

HIDDEN = "hidden files or folders (a dot at the start of the name) left out"
NO_IMAGE = "files in class folders left out, by their names no images"
LINK = "symbolic links followed"


class Walk:
    """List class folders and the images below them, and count what is left out and which links are followed.

    Every folder is given, and every file returned, relative to the root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[int, str]] = {}

    def classes(self, folder: str) -> list[str]:
        """Return the names of the folders right in a folder, sorted; hidden ones are left out.

        Raises:
            UserError: one is a link to nothing.
            OSError: the folder cannot be read.
        """
        names = []
        for entry in self._entries(folder):
            if entry.is_dir():
                if entry.name.startswith("."):
                    self._see(HIDDEN, os.path.join(folder, entry.name))
                else:
                    names.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                raise UserError(
                    f"{entry.path} is a link to {os.readlink(entry.path)}, which does not exist: mend or remove it"
                )
        return names

    def images(self, folder: str) -> list[str]:
        """Return the image files anywhere below a class folder, sorted.

        A link to nothing is listed if it has the name of an image: reading it fails, and says why.

        Raises:
            UserError: a folder lies in itself, by a link.
            OSError: a folder cannot be read.
        """
        path = self.root / folder
        if path.is_symlink():
            self._see(LINK, folder)
        return self._below(folder, (_identity(self.root), _identity(path)))

    def notes(self) -> list[str]:
        """Return what was left out and followed: how many of each kind, and the first."""
        return [f"{kind}: {count}, such as {first}" for kind, (count, first) in self._seen.items()]

    def _below(self, folder: str, above: tuple[Identity, ...]) -> list[str]:
        """above: this folder, and those that it lies in."""
        found: list[str] = []
        for entry in self._entries(folder):
            name = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                self._see(HIDDEN, name)
            elif is_image(entry.name) and entry.is_file(follow_symlinks=False):
                found.append(name)
            elif entry.is_dir():
                identity = _identity(entry.path)
                if identity in above:
                    raise UserError(f"{entry.path} is a link to a folder that it lies in: remove it")
                if entry.is_symlink():
                    self._see(LINK, name)
                found += self._below(name, (*above, identity))
            elif is_image(entry.name) and entry.is_symlink():
                self._see(LINK, name)
                found.append(name)
            else:
                self._see(NO_IMAGE, name)
        return found

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(self.root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def _see(self, kind: str, name: str) -> None:
        count, first = self._seen.get(kind, (0, name))
        self._seen[kind] = (count + 1, first)


def is_image(name: str) -> bool:
    """Return whether a file is taken for an image: by the end of its name, if that does not begin with a dot."""
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def _identity(folder: str | Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
