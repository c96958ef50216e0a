"""The identity of a run, by which two runs are the same: its settings, the code that runs, and the data it sees."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from classmates import models
from classmates._own_code import file_of, is_file_name
from classmates._sources import Package, Source, beside
from classmates.data.fingerprints import digest, split_hash
from classmates.data.loading import is_folder, load
from classmates.data.readers.by_name import NAMED
from classmates.data.readers.class_parts import list_class_parts
from classmates.data.readers.folder import list_folder
from classmates.data.readers.hub import list_hub
from classmates.data.readers.label_table import is_table, list_table
from classmates.data.readers.listing import read_listing
from classmates.data.readers.parquet import list_parquet
from classmates.data.readers.webdataset import list_webdataset
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.methods.spec import MethodSpec, known_methods
from classmates.runs.folder import FREE_SETTINGS
from classmates.runs.plain_values import plain_value, texts
from classmates.runs.spec import class_path
from classmates.runs.student_files import CARD
from classmates.runs.task_spec import TaskSpec, known_tasks, task_of
from classmates.tasks.classification import Classification
from classmates.training.train import train

ONLY_SHOW = ("cli", "configuration", "reporting", "experiments", "comparisons", "inspection", "catalog")
"""Rooms of the package that change no result of a run."""
LISTS = ("classmates", "classmates.methods", "classmates.models", "classmates.data.readers.by_name")
"""Modules that list things of which a run uses few: those are looked at, not the list."""
ONLY_SPLIT = ("seed", "train_size", "val_fraction")
"""Arguments of ``load`` that choose among the images; the data are the same with any of them."""


@dataclass(frozen=True)
class Identity:
    """Hashes of what a run is made of: equal ones are the same run, whenever and wherever it takes place.

    config: its settings (those that change what is computed), with the content of files they name. code: the sources
    of this package that the run depends on (whatever else was changed), and of the user's own method. data: class
    names, image size, and of every part its labels and its images: their pixels where they are kept in memory, else
    the names and sizes of their files.
    """

    config: str
    code: str
    data: str

    @property
    def key(self) -> str:
        return digest(self.config, self.code, self.data)[:8]


def config_hash(settings: Mapping[str, Any]) -> str:
    """Hash the settings that matter, those of files they name by what is in them."""
    matters = settings_that_matter(settings)
    # A network's name is none of a file, even where a folder has the same one.
    names = {name: value for name, value in matters.items() if name == "model" and ".py:" not in value}
    return digest(json.dumps(by_content(matters) | names, sort_keys=True))


def settings_that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a run's settings, as plain values, that are no defaults; not where the data lie: see ``data``.

    Without the defaults, so that an argument that a later version adds does not make another run of it; a default
    that a later version changes is a change of its code.
    """
    free = {*FREE_SETTINGS, "data", "data_dir", "method", "task"}
    method = settings["method"]
    matters = {name: value for name, value in not_default(settings, train_defaults()).items() if name not in free}
    options = not_default(method["init_args"], MethodSpec(method["class_path"]).resolved())
    matters["method"] = {"class_path": method["class_path"], "init_args": options}
    task = task_of(settings.get("task"))
    if task != Classification():
        spec = TaskSpec(class_path(type(task)), (settings["task"].get("init_args") or {}))
        matters["task"] = {"class_path": spec.class_path, "init_args": dict(spec.options)}
    return matters


def train_defaults() -> dict[str, Any]:
    """Return the default of every argument of ``train``."""
    return {name: entry.default for name, entry in inspect.signature(train).parameters.items()}


def not_default(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the plain values that are not the defaults."""
    plain = plain_value(defaults)
    return {name: value for name, value in values.items() if name not in plain or value != plain[name]}


def by_content(value: Any) -> Any:
    """Return settings with each file they name as the hash of its content: the same wherever it lies.

    Such are weights to begin from, a teacher's student, and a model's source, which keeps the name in it.
    """
    if isinstance(value, Mapping):
        return {name: by_content(item) for name, item in value.items()}
    if isinstance(value, list):
        return [by_content(item) for item in value]
    if isinstance(value, str):
        source, colon, name = value.rpartition(":") if ".py:" in value else (value, "", "")
        for path in (file_of(value) if colon else Path(source), Path(source) / "student.safetensors"):
            if path.is_file():
                return file_hash(path, path.stat().st_mtime_ns) + colon + name
    return value


@cache
def file_hash(path: Path, changed: int) -> str:
    """Hash a file's content; ``changed`` is when it was written, so that a file is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version(settings: Mapping[str, Any]) -> str:
    """Hash the code that a run with these settings depends on."""
    return code_hash(settings, this_package())


def code_hash(settings: Mapping[str, Any], package: Package) -> str:
    """Hash the sources of a package that a run's method, network and data import, and the method's own file.

    So are the files beside it that it imports, and those beside other files of the user's that the settings name: a
    model's, whose own content is among the settings. Docstrings, comments and layout do not count, as ``ast.unparse``
    has the code without them; nor do rooms that only show, plan or configure, nor other methods, models and readers.
    Methods and models are those that the settings name anywhere: the parts of a combined method and a teacher's model
    are among them.
    """
    methods = list(methods_named(settings["method"]))
    kinds = {base for method in methods for base in method.__mro__ if issubclass(base, Method)}
    own = [Source(Path(inspect.getfile(kind))) for kind in kinds if not within(kind, package)]
    files = [file_of(name) for name in texts_of(settings) if is_file_name(name)]
    own += beside([*own, *(Source(file) for file in files if file.is_file())])
    roots = {
        "classmates.training.train",
        *(kind.__module__ for kind in kinds if within(kind, package)),
        *(module for source in own for module in package.modules_of(source)),
        *(getattr(models, name).__module__ for name in texts_of(settings) if name in models.__all__),
        type(task_of(settings.get("task"))).__module__,
        *readers(settings["data"], settings.get("data_dir")),
    }
    listed = {kind.__module__ for kind in known_methods().values()}
    listed |= {kind.__module__ for kind in known_tasks().values()} - {Classification.__module__}

    def counts(importer: str, imported: str) -> bool:
        by_name = imported in listed and not importer.startswith("classmates.methods.")
        reader = importer == "classmates.data.loading" and imported.startswith("classmates.data.readers.")
        return not (by_name or reader or imported in LISTS or imported.split(".")[1] in ONLY_SHOW)

    modules = sorted(package.closure((root for root in roots if root not in LISTS), counts))
    code = [part for module in modules for part in (module, package.code(module))]
    flipped = str(NAMED[settings["data"]].flip if settings["data"] in NAMED else True)
    return digest(*code, *sorted(source.code for source in own), flipped)


@cache
def this_package() -> Package:
    return Package(Path(__file__).resolve().parents[1])


def within(kind: type, package: Package) -> bool:
    """Return whether a class is one of the package's."""
    return kind.__module__.partition(".")[0] == package.name


def methods_named(value: Any) -> Iterator[type[Method]]:
    """Yield the methods that a method's settings name: its own class, and those among its options."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from methods_named(item)
    elif isinstance(value, list):
        for item in value:
            yield from methods_named(item)
    elif isinstance(value, str) and (is_file_name(value) or re.fullmatch(r"\w+(\.\w+)*", value)):
        with suppress(UserError):  # most texts name no method
            yield MethodSpec.find(value)


def texts_of(settings: Any) -> Iterator[str]:
    """Yield every text among settings, and for the folder of a trained student the name of its model."""
    for text in texts(settings):
        yield text
        card = Path(text) / CARD
        if card.is_file():
            yield from texts_of(json.loads(card.read_text(encoding="utf-8")).get("model"))


def readers(data: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Return the modules that read a data set of this name, from these files."""
    kinds: list[Callable[..., Any]] = [read_listing]
    if data.startswith("hf:"):
        kinds += [list_hub]
    elif is_table(data):
        kinds += [list_table]
    elif is_folder(data, data_dir):
        kinds += [list_folder, list_class_parts, list_parquet, list_webdataset]
    elif data in NAMED:
        kinds += [*NAMED[data].readers, list_parquet]
    return tuple(kind.__module__ for kind in kinds)


def data_fingerprint(settings: Mapping[str, Any], known: dict[str, str] | None = None) -> str:
    """Hash the data set that a run with these settings reads, before anything of it is held out.

    known: the hashes of data sets that were read already, by how they are read; what is new is added.

    Raises:
        UserError: there is no such data set, or it cannot be read.
    """
    arguments = _of_load(settings)
    how = json.dumps(arguments)
    known = {} if known is None else known
    if how not in known:
        known[how] = _fingerprint(arguments)
    return known[how]


def hash_of_test_images(settings: Mapping[str, Any]) -> str:
    """Hash the test images that the student of a run with these settings is judged on."""
    return split_hash(load(val_fraction=0.0, **_of_load(settings)).test)


def _of_load(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the data set of a run is read, without what is held out of it."""
    takes = [name for name in inspect.signature(load).parameters if name not in ONLY_SPLIT]
    arguments = {name: settings[name] for name in takes if settings.get(name) is not None}
    return arguments | {"classes": task_of(settings.get("task")).classes}


def _fingerprint(arguments: Mapping[str, Any]) -> str:
    images = load(val_fraction=0.0, **arguments)
    numbers = [f"{value:.6g}" for value in (*images.mean, *images.std)]
    splits = [split for split in (images.train, images.val, images.test) if split is not None]
    parts = [split_hash(split) for split in splits]
    # By groups validation images are split off, and of test images intervals are taken.
    parts += [digest(split.groups.unique(return_inverse=True)[1]) for split in splits if split.groups is not None]
    return digest(*images.class_names, str(images.image_size), *numbers, *parts)
