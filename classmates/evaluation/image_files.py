"""The image files that are meant by files, folders, patterns and a list on standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from classmates.data.readers.walking import Walk
from classmates.errors import UserError

LIST = "-"
"""The word for a list of files on standard input, one a line."""
PATTERN = "*?["
"""The letters that make a word a pattern, where there is no file of that name."""


def find_images(given: list[str]) -> tuple[list[Path], list[str]]:
    """Return the files that are given and those below the folders that are, and notes on what is left out there.

    given: files, folders, patterns such as ``photos/**/*.jpg`` (sorted; ``**`` is any folders), and ``-``.

    Raises:
        UserError: nothing of a name or a pattern is there, no image is found, or a folder cannot be read.
    """
    found: list[Path] = []
    notes: list[str] = []
    try:
        for path in meant(given):
            if path.is_dir():
                walk = Walk(path)
                found += [path / name for name in walk.images("")]
                notes += walk.notes()
            elif path.exists() or path.is_symlink():
                found.append(path)
            else:
                raise UserError(f"there is no image file or folder '{path}'")
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(f"no image found in {', '.join(given) or 'nothing'}: give files or folders of images")
    return found, notes


def meant(given: Iterable[str]) -> Iterator[Path]:
    """Yield the files and folders of words; UserError for a pattern that nothing fits, or an empty list."""
    for word in map(str, given):
        if word == LIST:
            lines = [line.rstrip("\r\n") for line in sys.stdin]
            if not any(lines):
                raise UserError("the list of images on standard input is empty: give a file or folder a line")
            yield from (Path(line) for line in lines if line)
        elif any(letter in word for letter in PATTERN) and not Path(word).exists():
            fitting = sorted(glob.glob(word, recursive=True))
            if not fitting:
                raise UserError(f"no file fits '{word}': give another pattern, a file or a folder")
            yield from map(Path, fitting)
        else:
            yield Path(word)
