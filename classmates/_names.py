"""Names of files, which need not be Unicode, as text that can be."""

from __future__ import annotations


def in_unicode(text: str) -> str:
    r"""Return a text in which each byte of a file's name that is not UTF-8 is a backslash escape (``\udcff``).

    Python holds such a byte as half a surrogate pair, which no file of text, JSON or HTML may have.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
