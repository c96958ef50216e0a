"""The image files below a folder, and what else lies there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from classmates.data.readers.opening import EXTENSIONS, NO_HEIF, is_unread_heif
from classmates.errors import UserError

Identity = tuple[int, int]
"""Device and inode: the same folder, whatever path leads to it."""

HIDDEN = "hidden files or folders (a dot at the start of the name, __MACOSX, @eaDir) left out"
NO_IMAGE = "files left out, by their names no images"
LEFT_HEIF = f"photos left out that are {NO_HEIF}"
NO_FILE = "pipes, sockets and devices left out"
LINK = "symbolic links followed"
TWICE = "folders left out to which links lead a second time"


class Walk:
    """List class folders and the images below them, and count what is left out and which links are followed.

    Every folder is given, and every file returned, relative to the root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[int, str]] = {}

    def classes(self, folder: str) -> list[str]:
        """Return the names of the folders right in a folder ("" for the root), sorted; hidden ones are left out.

        Raises:
            UserError: one is a link to nothing.
            OSError: the folder cannot be read.
        """
        names = []
        for entry in self._entries(folder):
            if entry.is_dir():
                if is_hidden(entry.name):
                    self._see(HIDDEN, os.path.join(folder, entry.name))
                else:
                    names.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                raise link_to_nothing(entry.path)
        return names

    def images(self, folder: str) -> list[str]:
        """Return the image files anywhere below a class folder ("" for the root), sorted; each folder is read once.

        A link to nothing is listed if it has the name of an image: reading it fails, and says why.

        Raises:
            UserError: a folder lies in itself, by a link, or folders are nested too deep to be read.
            OSError: a folder cannot be read.
        """
        path = self.root / folder
        if folder and path.is_symlink():
            self._see(LINK, folder)
        identities = _identity(self.root), _identity(path)
        try:
            return self._below(folder, identities, set(identities))
        except RecursionError as error:
            raise UserError(f"{path} has folders nested too deep to be read") from error

    def notes(self, besides: Collection[str] = ()) -> list[str]:
        """Return what was left out and followed, besides some kinds: how many of each, and the first."""
        seen = {kind: found for kind, found in self._seen.items() if kind not in besides}
        return [f"{kind}: {count}, such as {first}" for kind, (count, first) in seen.items()]

    def _below(self, folder: str, above: tuple[Identity, ...], seen: set[Identity]) -> list[str]:
        """above: this folder, and those that it lies in. seen: every folder so far; a few links can lead to one by
        millions of ways."""
        found: list[str] = []
        for entry in self._entries(folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                self._see(HIDDEN, name)
            elif is_image(entry.name) and entry.is_file(follow_symlinks=False):
                found.append(name)
            elif entry.is_dir():
                identity = _identity(entry.path)
                if identity in above:
                    raise UserError(f"{entry.path} is a link to a folder that it lies in: remove it")
                if identity in seen:
                    self._see(TWICE, name)
                    continue
                if entry.is_symlink():
                    self._see(LINK, name)
                seen.add(identity)
                found += self._below(name, (*above, identity), seen)
            elif is_image(entry.name) and entry.is_symlink():
                self._see(LINK, name)
                found.append(name)
            else:
                kind = LEFT_HEIF if is_unread_heif(entry.name) else NO_IMAGE
                self._see(kind if entry.is_file() or entry.is_symlink() else NO_FILE, name)
        return found

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(self.root / folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def _see(self, kind: str, name: str) -> None:
        count, first = self._seen.get(kind, (0, name))
        self._seen[kind] = (count + 1, first)


@contextmanager
def told_of_unreadable() -> Iterator[None]:
    """Say of a folder that cannot be read which it is, and why."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def link_to_nothing(path: str) -> UserError:
    """Return the error for a link to what does not exist."""
    return UserError(f"{path} is a link to {os.readlink(path)}, which does not exist: mend or remove it")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is not meant to be seen: by a dot, or as macOS's archives and NASes have them.

    A NAS keeps smaller copies of all photos in @eaDir, and Windows what was deleted in $RECYCLE.BIN.
    """
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")


def is_image(name: str) -> bool:
    """Return whether a file is taken for an image: by the end of its name, if that does not begin with a dot."""
    return not name.startswith(".") and name.lower().endswith(EXTENSIONS)


def _identity(folder: str | Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
