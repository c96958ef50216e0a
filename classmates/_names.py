"""Names of files, which need not be Unicode, as text that can be, and for libraries that take no other."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def in_unicode(text: str) -> str:
    r"""Return a text in which each byte of a file's name that is not UTF-8 is a backslash escape (``\udcff``).

    Python holds such a byte as half a surrogate pair, which no file of text, JSON or HTML may have.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def name_of_class(text: str) -> str:
    """Return the name of a class: ``in_unicode``, and with its accents composed (NFC).

    macOS, and archives made there, write folders' names with accents apart: the same class, by other characters.
    """
    return unicodedata.normalize("NFC", in_unicode(text))


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Give a path of Unicode to a file or folder: its own, or else that of a link to it, for as long as it is used.

    Libraries that are not written in Python, such as safetensors, take no other.
    """
    if in_unicode(str(path)) == str(path):
        yield path
        return
    with TemporaryDirectory() as folder:
        link = Path(folder, f"link{in_unicode(path.suffix)}")
        link.symlink_to(path.resolve())
        yield link
