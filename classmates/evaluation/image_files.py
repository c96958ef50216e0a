"""The image files that are meant by files, folders, patterns and a list on standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path

from classmates.data.readers.walking import Walk
from classmates.errors import UserError

LIST = "-"
"""The word for a list of files on standard input, one a line."""
PATTERN = "*?["
"""The letters that make a word a pattern, where there is no file of that name."""


def find_images(given: str | Path | Iterable[str]) -> tuple[list[Path], list[str]]:
    """Return the files that are given and those below the folders that are, and notes on what is left out there.

    given: files, folders, patterns such as ``photos/**/*.jpg`` (sorted; ``**`` is any folders), and ``-``; or one.

    Raises:
        UserError: nothing of a name or a pattern is there, no image is found, or a folder cannot be read.
    """
    words = [str(word) for word in ([given] if isinstance(given, str | Path) else given)]
    found: list[Path] = []
    notes: list[str] = []
    try:
        for path in meant(words):
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
        raise UserError(f"no image found in {', '.join(words) or 'nothing'}: give files or folders of images")
    return found, notes


def meant(words: Iterable[str]) -> Iterator[Path]:
    """Yield the files and folders of words; UserError for a pattern that nothing fits, or an empty list.

    What fits a pattern and lies in a folder that fits it too is left out: all of the folder is meant already.
    """
    for word in words:
        if not word:
            raise UserError("the name of an image is empty: give files or folders of images; '.' for this folder")
        if word == LIST:
            if isinstance(sys.stdin, TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # names of files are bytes, not always UTF-8
            lines = [line.rstrip("\r\n") for line in sys.stdin]
            if not any(lines):
                raise UserError("the list of images on standard input is empty: give a file or folder a line")
            yield from (Path(line) for line in lines if line)
        elif any(letter in word for letter in PATTERN) and not Path(word).exists():
            fitting = dict.fromkeys(map(Path, sorted(glob.glob(word, recursive=True))))
            if not fitting:
                raise UserError(f"no file fits '{word}': give another pattern, a file or a folder")
            yield from (path for path in fitting if fitting.keys().isdisjoint(path.parents))
        else:
            yield Path(word)
