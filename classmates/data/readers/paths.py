"""The paths of millions of files in little memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from torch import Tensor


class Paths(Sequence[Path]):
    """File paths below one folder, kept as one string of bytes and where each begins in it: no object for a file.

    ImageNet's 1.3 million take 50 MB, which worker processes share. A ``Path`` is made when it is asked for.
    """

    def __init__(self, root: Path, names: Iterable[Sequence[str]]) -> None:
        """names: relative to ``root``, in groups (such as the files of one folder), one group in memory at a time."""
        self._of(root, b"".join(os.fsencode("".join(f"{name}\0" for name in group)) for group in names))

    @classmethod
    def packed(cls, root: Path, text: bytes) -> Paths:
        """Return the paths of which ``text`` has the names, a zero byte after each."""
        paths = cls.__new__(cls)
        paths._of(root, text)
        return paths

    def _of(self, root: Path, text: bytes) -> None:
        self.root, self._text = root, text
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)  # no path has a zero byte
        self._starts = np.concatenate([[0], ends + 1])[: len(ends)]

    def described(self) -> Iterator[str]:
        """Yield each file's name, from the folder, and size, by which a data set is known again."""
        return (f"{os.path.relpath(path, self.root)} {path.stat().st_size}" for path in self)

    def identity(self) -> Iterator[bytes]:
        """Yield the names, as one text, and where in it each begins; see ``Files``."""
        yield self._text
        yield self._starts.tobytes()

    def take(self, indices: Tensor) -> Paths:
        """Return the paths of these indices, in their order, with the same string behind them."""
        taken = Paths.__new__(Paths)
        taken.root, taken._text, taken._starts = self.root, self._text, self._starts[indices.numpy()]
        return taken

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        start = int(self._starts[index])
        return self.root / os.fsdecode(self._text[start : self._text.index(b"\0", start)])
