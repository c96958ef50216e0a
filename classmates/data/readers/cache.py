"""A cache of what was read of many image files: one memory-mapped file, which the next start reads instead.

A cache may be deleted at any time. It is made again when the files have changed, and whenever anything about it is
not as it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from classmates._files import RESTING, remove_unfinished, whole_file
from classmates._names import utf8_path

FORMAT = "classmates cache 3"
"""Goes up whenever what is kept, or the way that images are decoded, changes."""


def cached(
    kind: str, of: Sequence[object], content: str, build: Callable[[], dict[str, Tensor]], notes: list[str]
) -> dict[str, Tensor]:
    """Return the tensors that ``build`` makes; made once, they are mapped from the file later and read when used.

    Of processes that want the same at the same time one builds, and the others wait for it. Where nothing can be
    written, the tensors are built every time.

    Args:
        kind: what it is, in a word: how the file's name begins.
        of: which one it is: the folder, and every setting that decides what is built. One file is kept of each.
        content: the ``fingerprint`` of what is read; with another one, the file is made again.
        build: makes the tensors by their names.
        notes: what the user must know is added here: a damaged cache, a place that cannot be written.
    """
    key = hashlib.sha256(json.dumps([FORMAT, kind, *map(str, of)]).encode()).hexdigest()
    uncached = "the images are read at every start (the variable CLASSMATES_CACHE=FOLDER puts the cache elsewhere)"
    with ExitStack() as stack:
        try:
            path = cache_folder() / f"{kind}-{key[:24]}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
            remove_unfinished(path.parent, f"{kind}-*", resting=RESTING)
            found = _read(path, key, content, notes)
            if found is not None:
                return found
        except (OSError, RuntimeError) as error:  # a RuntimeError: there is no home folder
            notes.append(f"no place for a cache: {error}; {uncached}")
            return build()
        built = build()
        try:
            _write(path, built, key, content)
        except (OSError, SafetensorError) as error:
            notes.append(f"the cache could not be written: {error}; {uncached}")
        return built


def cache_folder() -> Path:
    """Return ``$CLASSMATES_CACHE``, or ``classmates`` in ``$XDG_CACHE_HOME``, or ``~/.cache/classmates``.

    Raises:
        RuntimeError: none is set and there is no home folder.
    """
    if given := os.environ.get("CLASSMATES_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "classmates"


def fingerprint(files: Iterable[Path]) -> str:
    """Return a digest of every file's path, size and time of its last change, without reading any."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(os.path.abspath(file)))
        try:
            status = os.stat(file)
        except OSError:  # missing, or a link to nothing: whoever reads it will say so
            digest.update(b"\0missing\n")
        else:
            digest.update(b"\0%d\0%d\n" % (status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def _read(path: Path, key: str, content: str, notes: list[str]) -> dict[str, Tensor] | None:
    """Return the tensors of a cache that is whole, what was asked for, and up to date; else None."""
    try:
        # Opening it compares the file's length with the sizes in its header.
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        notes.append(f"the cache {path} is damaged, and was made again: {error}")
        return None
    if header.get("format") != FORMAT or header.get("key") != key or header.get("layout") != _layout(tensors):
        notes.append(f"the file {path} is no cache of these images, and was made again")
        return None
    return tensors if header.get("content") == content else None


def _write(path: Path, tensors: dict[str, Tensor], key: str, content: str) -> None:
    header = {"format": FORMAT, "key": key, "layout": _layout(tensors), "content": content}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the name with nothing behind it


def _layout(tensors: dict[str, Tensor]) -> str:
    """Return a digest of the names, types and shapes: the header itself has no checksum."""
    shapes = sorted((name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items())
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
