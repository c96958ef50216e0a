"""Files that are whole or not there, and their names; only regular ones are read."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

from classmates._names import in_unicode, utf8_path
from classmates._progress import note
from classmates.errors import UserError


@contextmanager
def whole_file(path: Path, *, through_links: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to; it becomes ``path`` at the end, or vanishes if anything fails.

    The folder is made where there is none, and the name keeps the suffix: some writers look at it. It is a name of
    Unicode throughout, which is all that some of them can write to. What earlier processes that were killed have left
    of the same file is removed. A link stays one, and the file it leads to is written, or else it becomes a file.

    Raises:
        OSError: among others where it is a folder, a pipe or a device.
    """
    path = _target(path) if through_links else path
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent, glob.escape(in_unicode(path.stem)), resting=RESTING)
    # Random: machines that share a folder may have processes of the same number.
    temporary = path.with_name(f".{in_unicode(path.stem)}.{uuid4().hex}{in_unicode(path.suffix)}")
    temporary.touch()
    mode = temporary.stat().st_mode  # as the umask says; some writers make a file for its owner alone
    try:
        with utf8_path(path.parent) as folder:
            yield folder / temporary.name
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # the name is not to outlive a power cut without what was written
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """Return the file that a path leads to, or would; OSError where it is no regular one, which stays as it is."""
    target = path.resolve() if path.is_symlink() else path
    if not target.name:
        raise IsADirectoryError("it is a folder, not a file")
    if target.exists():
        require_regular(target)
    return target


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 into a file that is whole or as it was before."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


UNFINISHED = re.compile(r"\..*\.[0-9a-f]{32}(\.\w+)?")
"""Temporary names of ``whole_file``."""


RESTING = 3600.0
"""Seconds after which a temporary file is left behind, where others may be writing: none rests so long in writing."""


def remove_unfinished(folder: Path, stem: str = "*", resting: float = 0.0) -> None:
    """Remove what processes that were killed have left of ``whole_file`` in a folder.

    Args:
        folder: where to look.
        stem: of which files, as a pattern of their names without the suffix.
        resting: seconds for which nobody has written to it; 0 only where no other process writes.
    """
    for path in folder.glob(f".{stem}.*"):
        with suppress(FileNotFoundError):  # another process has renamed or removed it
            if UNFINISHED.fullmatch(path.name) and time.time() - path.stat().st_mtime >= resting:
                path.unlink()


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock on a file while this process lives, however it ends; gives False where another process has it.

    The lock is this process's alone (``lockf``): no child that outlives it keeps it. The file goes at the end.
    """
    with path.open("a") as file:
        mine = _lock(file.fileno(), path)
        try:
            yield mine
        finally:
            if mine:
                path.unlink(missing_ok=True)


def _lock(file: int, path: Path) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), path.stat())
    except (BlockingIOError, PermissionError, FileNotFoundError):  # it is held, or its holder has just removed it
        return False
    except OSError as error:
        note(f"nothing keeps other processes out of '{path.parent}': no locks there ({error.strerror})")
        return True


@contextmanager
def output_file(path: Path, *, through_links: bool = True) -> Iterator[Path]:
    """Give ``whole_file`` at a place that the user has named; UserError where it cannot be written."""
    with _told(path), whole_file(path, through_links=through_links) as temporary:
        yield temporary


ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How the address of something that is not on this machine begins; a path has lost one of two slashes."""


def at_home(path: str | Path) -> Path:
    """Return a path in which ``~`` is the user's home folder, as in a shell; that of nobody (``~x``) stays so."""
    return Path(os.path.expanduser(path))


def recipes_folder() -> Path:
    """Return the recipes that come with the package: in it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def require_writable(path: Path) -> None:
    """Raise UserError where ``output_file`` could not write; nothing is left there.

    It is tried out: permissions alone do not tell.
    """
    with _told(path):
        path = _target(path)
        made = [folder for folder in path.parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path.parent):
                pass
        finally:
            for folder in made:
                with suppress(OSError):  # it was not made, or another process uses it by now
                    folder.rmdir()


_NO_FILES: dict[str, Callable[[int], bool]] = {
    "folder": stat.S_ISDIR,
    "pipe": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


def require_regular(path: Path) -> None:
    """Raise OSError where a path leads to no regular file: to open a pipe or a device could wait for ever."""
    mode = path.stat().st_mode
    for kind, is_one in _NO_FILES.items():
        if is_one(mode):
            raise OSError(f"it is a {kind}, not a file")


def regular_text(path: Path) -> str:
    """Return what a regular file holds in UTF-8; OSError or ValueError where it cannot be read."""
    require_regular(path)
    return path.read_text(encoding="utf-8")


def slug(text: str, longest: int = 40) -> str:
    """Return what of a text can be part of a file's name, cut at so many characters."""
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:longest]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        if ADDRESS.match(str(path)):
            raise OSError("it is an address, and results are written to folders of this machine")
        if "\0" in str(path):
            raise OSError("no name has a NUL in it")
        yield
    except OSError as error:
        in_a_file = isinstance(error, FileExistsError | NotADirectoryError)
        why = "a part of this path is a file" if in_a_file else error.strerror or error
        raise UserError(f"'{path}' cannot be written ({why}): mend that, or name another place with --out") from error
