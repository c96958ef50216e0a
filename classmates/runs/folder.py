"""A run's folder: what it was asked for, what it may not overwrite, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.methods.spec import MethodSpec
from classmates.runs.files import output_file

# What may differ when a run goes on: none of it changes what is computed.
FREE_SETTINGS = {"resume", "out", "max_time", "report", "progress", "loggers", "num_workers", "checkpoint_steps"}


class Run:
    """The files of one run.

    Args:
        folder: where they are.
        settings: every argument of ``train``, as plain values.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self.folder = folder
        self.settings = dict(settings)
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.csv"
        self.checkpoints = folder / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.result = folder / "result.json"
        self.evaluation = folder / "evaluation.npz"

    def begin(self) -> None:
        """Makes the folder and writes the settings; UserError where it already holds something."""
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(
                f"'{self.folder}' already holds {'a run' if self.config.exists() else 'something else'}: "
                "name another folder with --out, or go on with that run with --resume true"
            )
        with output_file(self.config) as path:
            path.write_text(yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def check_resumable(self) -> None:
        """UserError where there is no run to go on with, or where it was asked for something else."""
        if not self.config.exists():
            raise UserError(f"'{self.folder}' holds no run to go on with: leave out --resume to start one")
        if not self.last.exists():
            raise UserError(
                f"'{self.folder}' has no checkpoint yet (the run ended before its first): "
                "remove the folder and start anew"
            )
        before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {before.get(name)!r} and is {self.settings.get(name)!r}"
            for name in {**before, **self.settings}
            if name not in FREE_SETTINGS and before.get(name) != self.settings.get(name)
        ]
        if changed:
            raise UserError(
                f"'{self.folder}' was started with other settings: {'; '.join(changed)}. A run goes on as it was: "
                "give the same settings, or start another with --out"
            )


def run_name(method: Method, model: object, data: object, seed: int) -> str:
    """``<method>-<model>-<data>-<seed>``, from names that may be paths or objects."""
    return "-".join([type(method).__name__, _short(model), _short(data), str(seed)])


def _short(thing: object) -> str:
    if isinstance(thing, str) and thing.startswith("hf:"):
        return thing.removeprefix("hf:").replace("/", "_").replace(":", "_")
    if isinstance(thing, str | Path):
        path, _, name = str(thing).rpartition(":")
        return (name if path else Path(thing).name or Path(thing).resolve().name).replace("/", "_")
    return type(thing).__name__


def plain_settings(method: Method, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``train`` as values that YAML can hold and the command line can read back."""
    plain = {name: plain_value(value) for name, value in settings.items()}
    spec = MethodSpec.of(settings["method"])
    plain["method"] = spec.plain() if spec else {"class_path": class_path(type(method)), "init_args": {}}
    return plain


def class_path(cls: type) -> str:
    """The name that the command line and YAML have for a class: ``classmates.MCL``, ``my_module.MyMethod``."""
    package = cls.__module__.split(".")[0]
    return f"{package}.{cls.__name__}" if package == "classmates" else f"{cls.__module__}.{cls.__qualname__}"


def plain_value(value: Any) -> Any:
    """A value as YAML can hold it; an object of another kind becomes its type's name in brackets."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value)
    return (
        f"<{kind.__module__}.{kind.__qualname__} object>"
        if not isinstance(value, nn.Module)
        else f"<{kind.__qualname__}>"
    )
