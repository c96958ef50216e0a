"""The folder of a run: its files, its settings, what it may not overwrite, and when it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import eq
from pathlib import Path
from typing import Any

import yaml

from classmates._files import exclusive, output_file, regular_text, remove_unfinished, require_writable
from classmates._names import in_unicode
from classmates._yaml import read_yaml
from classmates.data.loading import refuse_among_classes
from classmates.errors import UserError
from classmates.runs.record import RunRecord

# What may differ when a run goes on: none of it changes what is computed.
FREE_SETTINGS = {
    *("resume", "out", "on", "max_time", "report", "progress", "loggers", "num_workers", "checkpoint_steps"),
}
OF_LIBRARIES = {"model_args", "optimizer_args", "schedule_args"}
"""Arguments of others' code, kept as they were given: what is not named is that code's own default."""


class RunFolder:
    """The files of one run.

    Args:
        folder: where they are.
        settings: every argument of ``train``, as plain values.
        name: of the run, for its record and loggers.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], name: str):
        self.folder = folder
        self.name = name
        self.settings = dict(settings)
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.csv"
        self.checkpoints = folder / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.result = folder / "result.json"
        self.evaluation = folder / "evaluation.npz"
        self.lock = folder / ".lock"

    @contextmanager
    def opened(self, *, resume: bool) -> Iterator[None]:
        """Begin the run in a folder that holds nothing, or go on with the one it holds; nobody else may meanwhile.

        What a process that was killed has left half-written is removed.

        Raises:
            UserError: the folder holds something, or no run that can go on; or another process trains in it.
        """
        self.check_resumable() if resume else check_empty(self.folder)
        if isinstance(self.settings.get("data"), str | Path):
            refuse_among_classes(self.folder, self.settings["data"], self.settings.get("data_dir"))
        require_writable(self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.lock) as mine:
            if not mine:
                raise UserError(
                    f"another process trains in '{self.folder}': wait for its end, or name another folder with --out"
                )
            remove_unfinished(self.folder)
            remove_unfinished(self.checkpoints)
            if not resume:
                with output_file(self.config) as path:
                    text = yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)
                    path.write_text(text, encoding="utf-8")
            yield

    def check_resumable(self) -> None:
        """Raise UserError where there is no run to go on with, or one with other settings."""
        if not self.config.exists():
            raise UserError(
                f"'{self.folder}' holds no run to go on with: leave out --resume to start one; if it was moved, "
                "--out says where to"
            )
        if not self.last.exists() and self.result.exists():
            raise UserError(
                f"'{self.folder}' holds a finished run without its checkpoints: there is nothing to go on with; "
                "start another with --out"
            )
        if not self.last.exists():
            raise UserError(
                f"'{self.folder}' has no checkpoint yet (the run ended before its first): "
                "remove the folder and start anew"
            )
        before = stored_settings(self.folder)
        if not before:
            raise UserError(f"'{self.config}' is damaged: the run cannot go on; remove the folder and start anew")
        changed = [
            f"{name} was {before.get(name)!r} and is {self.settings.get(name)!r}"
            for name in before
            if name not in FREE_SETTINGS
            and not (eq if name in OF_LIBRARIES else _same)(before[name], self.settings.get(name))
        ]
        if changed:
            raise UserError(
                f"'{self.folder}' was started with other settings: {'; '.join(changed)}. A run goes on as it was: "
                "give the same settings, or start another with --out"
            )


def check_empty(folder: Path) -> None:
    """Raise UserError where a run's folder already holds something."""
    run = RunFolder(folder, {}, "")
    if not folder.exists() or (folder.is_dir() and set(folder.iterdir()) <= {run.lock}):
        return
    if not run.config.exists():
        raise UserError(f"'{folder}' already holds something else: name another with --out")
    if not run.last.exists():
        what = "a finished run" if run.result.exists() else "a run that ended before its first checkpoint"
        raise UserError(f"'{folder}' holds {what}: name another folder with --out, or remove it to start anew")
    raise UserError(
        f"'{folder}' already holds a run: name another folder with --out, or go on with that run with --resume true"
    )


def note_places(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in a run's folder where its data and weights lie now; they are known to be the same."""
    before = stored_settings(folder)
    places = {name: settings[name] for name in ("data", "data_dir", "model_weights") if name in before}
    if before | places != before:
        with output_file(folder / "config.yaml") as path:
            path.write_text(yaml.safe_dump(before | places, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _same(before: Any, now: Any) -> bool:
    """Return whether a setting is as it was; options that an earlier version did not have yet are left out."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return all(name in now and _same(value, now[name]) for name, value in before.items())
    return bool(before == now)


def stored_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in a run's folder; empty where there are none that can be read."""
    try:
        settings = read_yaml(folder / "config.yaml", "settings")
    except UserError:
        return {}
    return settings if isinstance(settings, dict) else {}


def read_record(path: Path) -> RunRecord | None:
    """Read a ``result.json``; None where there is no whole one.

    Raises:
        UserError: a later version wrote it, so that it is not damaged but cannot be read.
    """
    try:
        return RunRecord.from_json(regular_text(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError):
        return None


def run_name(method: str, model: object, data: object, seed: int) -> str:
    """Return ``<method>-<model>-<data>-<seed>``, from names that may be paths or objects."""
    return in_unicode("-".join([method, _short(model), _short(data), str(seed)]))


def _short(thing: object) -> str:
    if isinstance(thing, str) and thing.startswith("hf:"):
        return thing.removeprefix("hf:").replace("/", "_").replace(":", "_")
    if isinstance(thing, str | Path):
        path, _, name = str(thing).rpartition(":")
        return (name if path else Path(thing).name or Path(thing).resolve().name).replace("/", "_")
    return type(thing).__name__
