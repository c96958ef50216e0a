"""What makes two runs the same run: their settings, the code that runs, and the data they see."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from classmates.data.loading import load
from classmates.data.parts import Split
from classmates.data.readers.paths import Paths
from classmates.runs.folder import FREE_SETTINGS
from classmates.runs.plain_values import plain_value
from classmates.training.train import train

ONLY_SHOW = ("cli", "configuration", "reporting", "experiments")
"""Subpackages that change no result of a run."""
ONLY_SPLIT = ("seed", "train_size", "val_fraction")
"""Arguments of ``load`` that choose among the images; the data are the same with any of them."""


@dataclass(frozen=True)
class Identity:
    """Hashes of what a run is made of: equal ones are the same run, whenever and wherever it takes place.

    config: its settings (those that change what is computed), with the content of files they name. code: the
    sources of this package that compute (whatever else of a checkout was changed), and of the user's own method.
    data: class names, image size, and of every part its labels and its images: their pixels where they are kept in
    memory, else the names and sizes of their files.
    """

    config: str
    code: str
    data: str

    @property
    def key(self) -> str:
        return digest(self.config, self.code, self.data)[:8]


def digest(*parts: str | bytes | Tensor) -> str:
    """The SHA-256 of several parts, 16 hexadecimal digits of it; of a tensor, of its numbers."""
    whole = hashlib.sha256()
    for part in parts:
        content: Any = part.encode() if isinstance(part, str) else part
        if isinstance(part, Tensor):
            content = part.flatten().view(torch.uint8).numpy()
        whole.update(len(content).to_bytes(8, "big"))
        whole.update(content)
    return whole.hexdigest()[:16]


def config_hash(settings: Mapping[str, Any], method: type) -> str:
    """Of the settings, as plain values, that are not the defaults; not of where the data lie: those have a hash too.

    Without the defaults, so that an argument that a later version adds does not make another run of it; a default
    that a later version changes is a change of its code.
    """
    free = {*FREE_SETTINGS, "data", "data_dir", "method"}
    options = not_default(settings["method"]["init_args"], method)
    matters = {name: value for name, value in not_default(settings, train).items() if name not in free}
    matters["method"] = {"class_path": settings["method"]["class_path"], "init_args": options}
    return digest(json.dumps(matters, sort_keys=True), *files_named(matters))


def not_default(values: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Those of the arguments of a function, as plain values, that are not what its signature has."""
    defaults = {name: plain_value(entry.default) for name, entry in inspect.signature(function).parameters.items()}
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def files_named(value: Any) -> Iterable[bytes]:
    """The contents of files that settings name: a teacher's student, weights to begin from, a model's source."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from files_named(item)
    elif isinstance(value, list):
        for item in value:
            yield from files_named(item)
    elif isinstance(value, str):
        source = value.rpartition(":")[0] if ".py:" in value else value
        for path in (Path(source), Path(source) / "student.safetensors"):
            if path.is_file():
                yield file_hash(path, path.stat().st_mtime_ns).encode()


@cache
def file_hash(path: Path, changed: int) -> str:
    """Of a file's content; ``changed`` is when it was written, so that a file is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version(method: type) -> str:
    """Of every source of this package that computes something, and of the file of a method that is not its own."""
    package = Path(__file__).resolve().parents[1]
    own = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in ONLY_SHOW]
    sources = {path.relative_to(package).as_posix(): path.read_bytes() for path in own}
    file = inspect.getsourcefile(method)
    if file is not None and package not in Path(file).resolve().parents:
        sources[method.__name__] = Path(file).read_bytes()
    return digest(*(part for name in sorted(sources) for part in (name, sources[name])))


def data_fingerprint(settings: Mapping[str, Any]) -> str:
    """Of the data set that a run with these settings reads, before anything of it is held out.

    Raises:
        UserError: there is no such data set, or it cannot be read.
    """
    takes = [name for name in inspect.signature(load).parameters if name not in ONLY_SPLIT]
    return _fingerprint(json.dumps({name: settings[name] for name in takes if settings.get(name) is not None}))


@cache
def _fingerprint(arguments: str) -> str:
    images = load(val_fraction=0.0, **json.loads(arguments))
    numbers = [f"{value:.6g}" for value in (*images.mean, *images.std)]
    parts = [split_hash(split) for split in (images.train, images.val, images.test) if split is not None]
    return digest(*images.class_names, str(images.image_size), *numbers, *parts)


def split_hash(split: Split) -> str:
    """Of the labels, and of the pixels in memory or else of each file's name and size.

    Of images that are neither, as the Hub's are, the labels are all that is looked at.
    """
    if split.images is not None:
        return digest(split.labels, split.images)
    if isinstance(split.paths, Paths):
        names = (f"{path.relative_to(split.paths.root)} {path.stat().st_size}" for path in split.paths)
        return digest(split.labels, "\n".join(names))
    return digest(split.labels)
