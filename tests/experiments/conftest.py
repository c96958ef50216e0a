"""Finished runs as training leaves them, made without training: logits and features are drawn, then scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from classmates.evaluation.metrics import score
from classmates.experiments.recipe import Recipe
from classmates.experiments.records import COLUMNS

IMAGES, CLASSES, EPOCHS = 200, 10, 3


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Four rows, of which two differ in one option alone."""
    return Recipe(
        title="A comparison of <four> rows",
        source="A paper, Table 1",
        rows={"Baseline": {}, "DML": {}, "MCL": {}, "beta_0.2 & more": {}},
        models=("tiny",),
        data=("digits",),
        seeds=(0, 1, 2),
        reference="Baseline",
        published={"tiny": {"Baseline": "70.00 ± 0.50", "MCL": 74.5}},
        notes=["One & only."],
    )


@pytest.fixture(scope="session")
def frame_of() -> Callable[..., pd.DataFrame]:
    """Makes lines of ``read_runs``: each run has row and seed, and whatever else it is given."""

    def make(runs: list[dict[str, Any]]) -> pd.DataFrame:
        usual = {
            "model": "tiny",
            "data": "digits",
            "status": "done",
            "test_images": IMAGES,
            "seconds": 30.0,
            "steps": 3000,
        }
        usual |= {"seconds_per_step": 0.01, "peak_memory_mib": 100.0, "image_passes": 1500, "nll": 0.5, "ece": 0.05}
        usual |= {"torch": "2.15", "commit": None, "folder": "/nowhere"}
        return pd.DataFrame([usual | run for run in runs], columns=list(COLUMNS))

    return make


METHODS: dict[str, dict[str, Any]] = {
    "Baseline": {"class_path": "classmates.Baseline", "init_args": {}},
    "DML": {"class_path": "classmates.DML", "init_args": {"peers": 2}},
    "MCL": {"class_path": "classmates.MCL", "init_args": {"peers": 2, "beta": 0.1, "negatives": "all"}},
    "beta_0.2 & more": {"class_path": "classmates.MCL", "init_args": {"peers": 2, "beta": 0.2, "negatives": "all"}},
}
HELP = {"Baseline": 1.6, "DML": 1.9, "MCL": 2.6, "beta_0.2 & more": 2.2}


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory, frame_of: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Three seeds of four rows, with folders that no test changes, in one called runs."""
    runs = tmp_path_factory.mktemp("comparison") / "runs"
    places = [(row, seed) for seed in range(3) for row in METHODS]
    lines = [write_run(runs / f"{row.replace(' ', '')}-{seed}", row, seed) for row, seed in places]
    return frame_of(lines)


def write_run(folder: Path, row: str, seed: int) -> dict[str, Any]:
    """Writes the folder of a finished run; its line is returned."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng([seed, *row.encode()])
    labels = np.arange(IMAGES) % CLASSES
    truth = np.eye(CLASSES, dtype=np.float32)[labels]
    logits = (HELP[row] * truth + draw.normal(size=truth.shape)).astype(np.float32)
    test = score(torch.from_numpy(logits), torch.from_numpy(labels))
    record = {
        "name": folder.name,
        "method": row,
        "model": "tiny",
        "data": "digits",
        "seed": seed,
        "finished": "2026-11-22T13:30:00+00:00",
        "test": {"student": test},
        "validation": None,
        "training": {"epochs": EPOCHS, "steps": 30, "seconds": 30.0 + seed, "images_per_second": 50.0}
        | {"peak_memory_mib": 100.0},
        "student": {"parameters": 1000, "multiply_adds": 5000},
        "training_parameters": 2000,
        "train_images": 500,
        "notes": [],
        "environment": {"torch": "2.15", "commit": None},
    }
    settings = {"method": METHODS[row], "model": "tiny", "data": "digits", "seed": seed, "epochs": EPOCHS}
    settings |= {"lr": 0.1 if row == "Baseline" else 0.05, "optimizer_args": {"momentum": 0.9}, "out": str(folder)}
    epochs = np.arange(1, EPOCHS + 1)
    curve = {"epoch": epochs, "val/student/top1": 0.2 * epochs + 0.01 * seed}
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "student.json").write_text(json.dumps({"class_names": [str(n) for n in range(CLASSES)]}))
    pd.DataFrame(curve).to_csv(folder / "metrics.csv", index=False)
    some = slice(0, 30)
    np.savez(
        folder / "evaluation.npz",
        labels=labels,
        **{"logits/student": logits},
        wrong_rows=np.zeros(0, np.int64),
        wrong_images=np.zeros((0, 8, 8, 1), np.uint8),
        stage_names=np.array(["stage1"]),
        feature_labels=labels[some],
        **{"features/0": draw.normal(size=(30, 4)).astype(np.float32), "features/embedding": logits[some]},
    )
    return {"row": row, "seed": seed, "folder": str(folder), "student": test["top1"], "seconds": 30.0 + seed}
