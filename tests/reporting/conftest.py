"""A run's folder as training writes it, made without training: linear classifiers on scikit-learn's digits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import SGDClassifier
from torchmetrics.functional.classification import multiclass_calibration_error

NETWORKS = ("peer1", "peer2", "student")
EPOCHS = 8
TRAIN, VALIDATION, TEST = slice(0, 500), slice(500, 600), slice(1000, 1797)
ALL = (*NETWORKS, "ensemble")


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The numbers that result.json holds of one network."""
    logits, labels = torch.as_tensor(logits, dtype=torch.float32), torch.as_tensor(labels)
    probabilities = logits.softmax(1)
    count, classes = logits.shape
    top1 = float((logits.argmax(1) == labels).double().mean())
    spread = 1.96 * np.sqrt(top1 * (1 - top1) / count)
    five = (logits.topk(min(5, classes)).indices == labels[:, None]).any(1)
    return {
        "top1": top1,
        "top1_interval": [top1 - spread, top1 + spread],
        **({"top5": float(five.double().mean())} if classes > 5 else {}),
        "nll": float(torch.nn.functional.cross_entropy(logits, labels)),
        "brier": float((probabilities - torch.eye(classes)[labels]).square().sum(1).mean()),
        "ece": float(multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=15)),
        "count": count,
    }


def write_run(folder: Path, *, samples: int = 60) -> Path:
    """Writes all files of a finished run into ``folder``, which must not exist yet."""
    folder.mkdir(parents=True)
    digits = load_digits()
    images, labels = digits.data / 16, digits.target
    networks = {who: SGDClassifier(loss="log_loss", random_state=seed) for seed, who in enumerate(NETWORKS)}
    rows, validation = [], []
    for epoch in range(1, EPOCHS + 1):
        for network in networks.values():
            network.partial_fit(images[TRAIN], labels[TRAIN], classes=range(10))
        logits = _logits(networks, images)
        scores = {who: score(logits[who][VALIDATION], labels[VALIDATION]) for who in ALL}
        validation.append({"epoch": epoch, **scores})
        ce = sum(score(logits[who][TRAIN], labels[TRAIN])["nll"] for who in NETWORKS)
        contrast = 40 / (1 + epoch)
        rows.append(
            {"epoch": epoch, "step": 8 * epoch, "lr": 0.1 * (1 - epoch / EPOCHS)}
            | {"train/total": ce + 0.025 * contrast, "train/ce": ce, "train/ce/weighted": ce}
            | {"train/contrast": contrast, "train/contrast/weighted": 0.025 * contrast}
            | {f"val/{who}/{key}": scores[who][key] for who in ALL for key in ("top1", "nll")}
            | {"seconds": 1.3, "images_per_second": 820.1}
        )
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)

    test = {who: score(logits[who][TEST], labels[TEST]) for who in ALL}
    result = {
        "name": "MCL-linear-digits-0",
        "method": "MCL",
        "model": "linear",
        "data": "digits",
        "seed": 0,
        "epochs": EPOCHS,
        "finished": "2026-11-22T13:30:00+00:00",
        "train_images": 500,
        "test": test,
        "validation": {"last": validation[-1], "best": max(validation, key=lambda one: one["student"]["top1"])},
        "training": {
            "seconds": 41.2,
            "steps": 64,
            "images_per_second": 820.1,
            "peak_memory_mib": None,
            "epochs": EPOCHS,
        },
        "student": {"parameters": 78_000, "multiply_adds": 1_234_567},
        "training_parameters": 300_000,
        "notes": ["A fixture of the file format: linear classifiers stand in for networks."],
        "environment": {"classmates": "0.1.0", "python": "3.11", "cpu": "two cores", "accelerator": None},
    }
    settings = {
        "method": {"class_path": "classmates.MCL", "init_args": {"peers": 3, "temperature": 3.0}},
        "data": "digits",
        "lr": 0.1,
        "max_time": None,
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "student.json").write_text(json.dumps({"model": "linear", "class_names": [str(n) for n in range(10)]}))

    wrongness = torch.nn.functional.cross_entropy(
        torch.tensor(logits["student"][TEST]), torch.tensor(labels[TEST]), reduction="none"
    )
    wrong = wrongness.argsort(descending=True)[:12].numpy()
    discriminant = LinearDiscriminantAnalysis().fit(images[TRAIN], labels[TRAIN])
    some = slice(TEST.start, TEST.start + samples)
    np.savez(
        folder / "evaluation.npz",
        labels=labels[TEST],
        wrong_rows=wrong,
        wrong_images=np.round(digits.images[TEST][wrong] * 255 / 16).astype(np.uint8)[..., None],
        stage_names=np.array(["rows", "pixels"]),
        feature_labels=labels[some],
        **{f"logits/{who}": logits[who][TEST] for who in ALL},
        **{
            "features/0": images[some].reshape(-1, 8, 8).mean(2).astype(np.float32),
            "features/1": images[some].astype(np.float32),
            "features/embedding": discriminant.transform(images[some]).astype(np.float32),
        },
    )
    return folder


def _logits(networks: dict[str, SGDClassifier], images: np.ndarray) -> dict[str, np.ndarray]:
    logits = {who: network.decision_function(images).astype(np.float32) / 4 for who, network in networks.items()}
    return {**logits, "ensemble": np.mean(list(logits.values()), axis=0)}


def _change(path: Path, edit: Callable[[Any], object]) -> None:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
    else:
        with np.load(path) as arrays:
            content = dict(arrays)
        edit(content)
        np.savez(path, **content)


@pytest.fixture
def change() -> Callable[[Path, Callable[[Any], object]], None]:
    """Edits what a JSON or npz file of a run holds, in place."""
    return _change


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test changes."""
    return write_run(tmp_path_factory.mktemp("runs") / "MCL-linear-digits-0")


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
