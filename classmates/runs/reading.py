"""Reading a finished run's folder; whatever is missing or damaged is named with its file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classmates._names import in_unicode
from classmates._yaml import parse_yaml
from classmates.errors import UserError
from classmates.runs.record import RunRecord

Value = TypeVar("Value")
MORE = ("episodes", "outcomes", "wrong_files")
"""The arrays of ``evaluation.npz`` that only some runs keep, by the beginnings of their names."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """``evaluation.npz``: the student on the test images.

    labels: [n]. class_names: [K], theirs. logits: [n, K], or whatever else the protocol judges. wrong_images:
    [m, H, W, C] uint8, the images in rows wrong_rows [m] of labels. features: (stage name, [s, C_i])
    shallow to deep and the embedding, of the same s images, of classes feature_labels [s]. more: what else the run
    keeps, by name; wrong_files, [m], what the wrong images are called where they come from files.
    """

    labels: NDArray[np.int64]
    class_names: list[str]
    logits: NDArray[np.float32]
    wrong_images: NDArray[np.uint8]
    wrong_rows: NDArray[np.int64]
    features: list[tuple[str, NDArray[np.float32]]]
    feature_labels: NDArray[np.int64]
    more: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Everything the report is made of; ``metrics`` has one row an epoch, ``settings`` are the resolved ones."""

    folder: Path
    record: RunRecord
    settings: dict[str, Any]
    metrics: pd.DataFrame
    class_names: list[str]
    evaluation: Evaluation


def read_run(folder: Path) -> FinishedRun:
    """Read ``result.json``, ``config.yaml``, ``metrics.csv``, ``student.json`` and ``evaluation.npz``.

    Raises:
        UserError: the folder or a file is not there, or a file cannot be read or lacks something.
    """
    if not folder.is_dir():
        raise UserError(f"no such run: {folder} is not a folder; give the folder that `classmates train` wrote")
    if not (folder / "result.json").is_file():
        raise UserError(
            f"not a finished run: {folder} has no result.json; "
            "it is written at the end of training: let the run finish, or resume it"
        )
    record = _read(folder / "result.json", lambda path: RunRecord.from_json(path.read_text("utf-8")))
    if not record.test:
        again = shlex.quote(str(folder / "config.yaml"))
        raise UserError(
            f"{folder} was trained without a look at the test images (test false), so that there is nothing to show "
            f"(of what `classmates improve` tried, its own report.html does). Trained anew "
            f"it has a report: classmates train --config {again} --test true --report true --out FOLDER"
        )
    settings = _read(folder / "config.yaml", lambda path: dict(parse_yaml(path.read_text("utf-8"))))
    metrics = _read(folder / "metrics.csv", _metrics)
    names = _read(folder / "student.json", _class_names)
    evaluation = _read(folder / "evaluation.npz", lambda path: _evaluation(path, names, record))
    return FinishedRun(folder, record, settings, metrics, evaluation.class_names, evaluation)


def read_outcomes(folder: Path) -> tuple[str, NDArray[np.float64]]:
    """Return the hash of what a run's student was judged on and its outcomes, [n], where the protocol keeps them.

    Raises:
        UserError: a file is missing or damaged, or holds no outcomes.
    """
    record = _read(folder / "result.json", lambda path: RunRecord.from_json(path.read_text("utf-8")))

    def outcomes(path: Path) -> NDArray[np.float64]:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["outcomes/student"].astype(np.float64)

    return record.drawn.get("test", ""), _read(folder / "evaluation.npz", outcomes)


def _read(path: Path, parse: Callable[[Path], Value]) -> Value:
    if not path.is_file():
        raise UserError(f"incomplete run: {path} is missing; put it back from a copy of the run, or train again")
    try:
        return parse(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # what parsers raise on damaged content has no common type; some is undocumented
        reason = f"missing: {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or repr(error)
        raise UserError(
            f"damaged run: cannot use {path}: {reason}; put it back from a copy of the run, or train again"
        ) from error


def _metrics(path: Path) -> pd.DataFrame:
    metrics = pd.read_csv(path).apply(pd.to_numeric)
    if metrics.empty or "epoch" not in metrics:
        raise ValueError("it has no epoch")
    return metrics


def _class_names(path: Path) -> list[str]:
    # Runs of earlier versions have class names that are not Unicode.
    return [in_unicode(str(name)) for name in json.loads(path.read_text("utf-8"))["class_names"]]


def _evaluation(path: Path, training_classes: list[str], record: RunRecord) -> Evaluation:
    test_images = record.headline().count if record.protocol.counted == "images" else None
    judged = record.protocol.judged
    with np.load(path, allow_pickle=False) as arrays:
        # Earlier versions did not keep the names: test images had the classes of the training images.
        class_names = arrays["class_names"].tolist() if "class_names" in arrays else training_classes
        names = [*map(str, arrays["stage_names"]), "embedding"]
        keys = [*(f"features/{stage}" for stage in range(len(names) - 1)), "features/embedding"]
        found = Evaluation(
            labels=arrays["labels"].astype(np.int64),
            class_names=class_names,
            logits=arrays[f"{judged}/student"].astype(np.float32, copy=False),
            wrong_images=arrays["wrong_images"],
            wrong_rows=arrays["wrong_rows"].astype(np.int64),
            features=[(name, arrays[key].astype(np.float32)) for name, key in zip(names, keys, strict=True)],
            feature_labels=arrays["feature_labels"].astype(np.int64),
            more={name: arrays[name] for name in arrays if name.partition("/")[0] in MORE},
        )
    num_classes = len(class_names)
    width = num_classes if judged == "logits" else found.logits.shape[-1]
    test_images = len(found.labels) if test_images is None else test_images
    rows_of_features = len(found.feature_labels)
    for key, fits in {
        "labels": found.labels.shape == (test_images,) and _within(found.labels, num_classes),
        f"{judged}/student": found.logits.shape == (test_images, width) and np.isfinite(found.logits).all(),
        "wrong_rows": found.wrong_rows.ndim == 1 and _within(found.wrong_rows, test_images),
        "wrong_images": found.wrong_images.ndim == 4 and found.wrong_images.dtype == np.uint8,
        "episodes": record.protocol.counted != "episodes" or _are_episodes(found, record.protocol.settings),
        "number of wrong_images": len(found.wrong_images) == len(found.wrong_rows),
        "wrong_files": _are_names(found.more.get("wrong_files"), found.wrong_rows),
        "feature_labels": found.feature_labels.ndim == 1 and _within(found.feature_labels, num_classes),
        **{
            key: values.ndim == 2 and len(values) == rows_of_features and np.isfinite(values).all()
            for key, (_, values) in zip(keys, found.features, strict=True)
        },
    }.items():
        if not fits:
            raise ValueError(f"its {key} is not finite or does not fit {test_images} images of {num_classes} classes")
    return found


def _are_episodes(found: Evaluation, settings: Mapping[str, Any]) -> bool:
    """Return whether episodes are of the way, shot and queries that the settings say, in rows that there are."""
    episodes, shape = found.more["episodes"], (settings["way"], settings["shot"] + settings["queries"])
    return episodes.ndim == 3 and episodes.shape[1:] == shape and _within(episodes, len(found.labels))


def _are_names(files: NDArray[Any] | None, rows: NDArray[np.int64]) -> bool:
    """Return whether there are no names of files, or as many texts as rows."""
    return files is None or (files.shape == rows.shape and files.dtype.kind == "U")


def _within(numbers: NDArray[np.int64], limit: int) -> bool:
    return bool(((numbers >= 0) & (numbers < limit)).all())
