"""Reads a finished run's folder; whatever is missing or damaged is named with its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from classmates.errors import UserError
from classmates.runs.contents import Checkpoint, Cost, Evaluation, Result, Run, Score, Validation

Value = TypeVar("Value")


def read_run(folder: Path) -> Run:
    """Reads ``result.json``, ``config.yaml``, ``metrics.csv``, ``student.json`` and ``evaluation.npz``.

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
    result = _read(folder / "result.json", lambda path: _result(json.loads(path.read_text("utf-8"))))
    settings = _read(folder / "config.yaml", lambda path: dict(yaml.safe_load(path.read_text("utf-8"))))
    metrics = _read(folder / "metrics.csv", _metrics)
    names = _read(folder / "student.json", _class_names)
    expected = result.test["student"].count
    evaluation = _read(folder / "evaluation.npz", lambda path: _evaluation(path, len(names), expected))
    return Run(folder, result, settings, metrics, names, evaluation)


def _read(path: Path, parse: Callable[[Path], Value]) -> Value:
    if not path.is_file():
        raise UserError(f"incomplete run: {path} is missing; put it back from a copy of the run, or train again")
    try:
        return parse(path)
    except Exception as error:  # what parsers raise on damaged content has no common type; some is undocumented
        reason = f"missing: {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or repr(error)
        raise UserError(
            f"damaged run: cannot use {path}: {reason}; put it back from a copy of the run, or train again"
        ) from error


def _result(content: Mapping[str, Any]) -> Result:
    validation, training, student = content["validation"], content["training"], content["student"]
    memory = training["peak_memory_mib"]
    return Result(
        name=str(content["name"]),
        method=str(content["method"]),
        model=str(content["model"]),
        data=str(content["data"]),
        seed=int(content["seed"]),
        epochs=int(training["epochs"]),
        finished=datetime.fromisoformat(content["finished"]),
        train_images=int(content["train_images"]),
        test=_scores(content["test"]),
        validation=None if validation is None else _validation(validation),
        cost=Cost(
            seconds=float(training["seconds"]),
            steps=int(training["steps"]),
            images_per_second=float(training["images_per_second"]),
            peak_memory_mib=None if memory is None else float(memory),
            training_parameters=int(content["training_parameters"]),
            student_parameters=int(student["parameters"]),
            student_multiply_adds=int(student["multiply_adds"]),
        ),
        notes=[str(note) for note in content["notes"]],
        environment=dict(content["environment"]),
    )


def _validation(content: Mapping[str, Any]) -> Validation:
    return Validation(_checkpoint(content["last"]), _checkpoint(content["best"]))


def _checkpoint(content: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(int(content["epoch"]), _scores({who: of for who, of in content.items() if who != "epoch"}))


def _scores(content: Mapping[str, Any]) -> dict[str, Score]:
    student_first = {"student": content["student"], **content}
    return {who: _score(of) for who, of in student_first.items()}


def _score(content: Mapping[str, Any]) -> Score:
    low, high = content["top1_interval"]
    return Score(
        top1=float(content["top1"]),
        interval=(float(low), float(high)),
        top5=float(content["top5"]) if "top5" in content else None,
        nll=float(content["nll"]),
        brier=float(content["brier"]),
        ece=float(content["ece"]),
        count=int(content["count"]),
    )


def _metrics(path: Path) -> pd.DataFrame:
    metrics = pd.read_csv(path).apply(pd.to_numeric)
    if metrics.empty or "epoch" not in metrics:
        raise ValueError("it has no epoch")
    return metrics


def _class_names(path: Path) -> list[str]:
    names = json.loads(path.read_text("utf-8"))["class_names"]
    # A folder's name need not be Unicode; what is not becomes an escape, which can be drawn and written.
    return [str(name).encode("utf-8", "backslashreplace").decode("utf-8") for name in names]


def _evaluation(path: Path, num_classes: int, test_images: int) -> Evaluation:
    with np.load(path, allow_pickle=False) as arrays:
        names = [*map(str, arrays["stage_names"]), "embedding"]
        keys = [*(f"features/{stage}" for stage in range(len(names) - 1)), "features/embedding"]
        found = Evaluation(
            labels=arrays["labels"].astype(np.int64),
            logits=arrays["logits/student"].astype(np.float32, copy=False),
            wrong_images=arrays["wrong_images"],
            wrong_rows=arrays["wrong_rows"].astype(np.int64),
            features=[(name, arrays[key].astype(np.float32)) for name, key in zip(names, keys, strict=True)],
            feature_labels=arrays["feature_labels"].astype(np.int64),
        )
    rows_of_features = len(found.feature_labels)
    for key, fits in {
        "labels": found.labels.shape == (test_images,) and _within(found.labels, num_classes),
        "logits/student": found.logits.shape == (test_images, num_classes) and np.isfinite(found.logits).all(),
        "wrong_rows": found.wrong_rows.ndim == 1 and _within(found.wrong_rows, test_images),
        "wrong_images": found.wrong_images.ndim == 4 and found.wrong_images.dtype == np.uint8,
        "number of wrong_images": len(found.wrong_images) == len(found.wrong_rows),
        "feature_labels": found.feature_labels.ndim == 1 and _within(found.feature_labels, num_classes),
        **{
            key: values.ndim == 2 and len(values) == rows_of_features and np.isfinite(values).all()
            for key, (_, values) in zip(keys, found.features, strict=True)
        },
    }.items():
        if not fits:
            raise ValueError(f"its {key} is not finite or does not fit {test_images} images of {num_classes} classes")
    return found


def _within(numbers: NDArray[np.int64], limit: int) -> bool:
    return bool(((numbers >= 0) & (numbers < limit)).all())
