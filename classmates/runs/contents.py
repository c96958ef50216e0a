"""What a finished run's folder holds, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """How one network did on one set of images; shares lie in 0..1, ``top5`` is absent for five classes or fewer."""

    top1: float
    interval: tuple[float, float]
    top5: float | None
    nll: float
    brier: float
    ece: float
    count: int


@dataclass(frozen=True)
class Checkpoint:
    """What the networks scored on the validation split after one epoch."""

    epoch: int
    scores: dict[str, Score]


@dataclass(frozen=True)
class Validation:
    """The validation scores of the last epoch, and of the epoch that was best for the student."""

    last: Checkpoint
    best: Checkpoint


@dataclass(frozen=True)
class Cost:
    """What training took, and what the student takes; ``peak_memory_mib`` is None where it was not measured."""

    seconds: float
    steps: int
    images_per_second: float
    peak_memory_mib: float | None
    training_parameters: int
    student_parameters: int
    student_multiply_adds: int


@dataclass(frozen=True)
class Result:
    """``result.json``: ``test`` and the validation scores are by network, the student first; ``epochs`` were done."""

    name: str
    method: str
    model: str
    data: str
    seed: int
    epochs: int
    finished: datetime
    train_images: int
    test: dict[str, Score]
    validation: Validation | None
    cost: Cost
    notes: list[str]
    environment: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """``evaluation.npz``: the student on the test images.

    labels: [n]. logits: [n, K]. wrong_images: [m, H, W, C] uint8, the images in rows wrong_rows [m] of labels.
    features: (stage name, [s, C_i]) shallow to deep and the embedding, of the same s images, of classes
    feature_labels [s].
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    wrong_images: NDArray[np.uint8]
    wrong_rows: NDArray[np.int64]
    features: list[tuple[str, NDArray[np.float32]]]
    feature_labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Run:
    """Everything the report is made of; ``metrics`` has one row an epoch, ``settings`` are the resolved ones."""

    folder: Path
    result: Result
    settings: dict[str, Any]
    metrics: pd.DataFrame
    class_names: list[str]
    evaluation: Evaluation
