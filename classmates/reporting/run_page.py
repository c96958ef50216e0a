"""Puts a run's numbers and figures into one HTML file."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import confusion_matrix
from sklearn.utils.extmath import softmax
from tqdm import tqdm

from classmates.reporting import analysis, figures, page, theme
from classmates.runs.contents import Evaluation, Result, Run
from classmates.runs.reading import read_run

MOST_CLASSES_IN_A_MATRIX = 30


def write_run_page(folder: Path, out: Path) -> None:
    """Write what a finished run says about itself as one HTML file that needs no network.

    Raises:
        UserError: not a finished run, a file of it is missing or damaged, or ``out`` cannot be written.
    """
    page.write(render(read_run(folder)), out)


def render(run: Run) -> str:
    """The page for ``run``; its words are in ``report.html.j2``, everything put into them is escaped."""
    return page.fill(
        "report.html.j2",
        run=run,
        result=run.result,
        student=run.result.test["student"],
        class_names=run.class_names,
        settings=page.flat(run.settings),
        most_classes=MOST_CLASSES_IN_A_MATRIX,
        told_apart=theme.MOST_CLASSES_TOLD_APART,
        coloured=len(theme.TEN),
        **_accuracies(run.result),
        **_curves(run.metrics),
        **_mistakes(run.evaluation, run.class_names),
        **_features(run.evaluation, run.class_names),
    )


def _accuracies(result: Result) -> dict[str, Any]:
    """Test accuracy of everyone as a figure, where there is anyone beside the student."""
    if len(result.test) == 1:
        return {"accuracy_svg": None}
    top1 = {who: score.top1 for who, score in result.test.items()}
    intervals = {who: score.interval for who, score in result.test.items()}
    return {"accuracy_svg": theme.svg(figures.accuracy_intervals(top1, intervals), "accuracy")}


def _curves(metrics: pd.DataFrame) -> dict[str, Any]:
    """Curves over the epochs, from the columns ``val/WHO/top1``, ``train/TERM`` and ``train/TERM/weighted``."""

    def columns(pattern: str) -> dict[str, Any]:
        matches = ((column, re.fullmatch(pattern, column)) for column in metrics.columns)
        found = {match[1]: metrics[column].to_numpy(float) for column, match in matches if match}
        student_first = sorted(found, key=lambda name: name != "student")
        return {name: found[name] for name in student_first}

    epochs = metrics["epoch"].to_numpy()
    top1, nll = columns("val/(.+)/top1"), columns("val/(.+)/nll")
    raw, weighted = columns("train/([^/]+)"), columns("train/([^/]+)/weighted")
    if "total" in raw:
        weighted["total"] = raw.pop("total")
    validation = figures.validation_curves(epochs, top1, nll) if top1 else None
    losses = figures.loss_curves(epochs, raw, weighted) if raw.keys() <= weighted.keys() and raw else None
    return {
        "validation_svg": validation and theme.svg(validation, "validation"),
        "validated": list(top1),
        "losses_svg": losses and theme.svg(losses, "losses"),
        "terms": list(raw),
    }


def _mistakes(evaluation: Evaluation, names: list[str]) -> dict[str, Any]:
    """What the student gets wrong: confusion, calibration, and the images it is most wrong about."""
    probabilities = softmax(evaluation.logits)
    predicted = evaluation.logits.argmax(axis=1)
    correct = predicted == evaluation.labels
    confusion = confusion_matrix(evaluation.labels, predicted, labels=range(len(names)))
    bins = analysis.reliability(probabilities.max(axis=1), correct)
    matrix = figures.confusion_matrix(confusion, names) if len(names) <= MOST_CLASSES_IN_A_MATRIX else None
    drawable = evaluation.wrong_images.shape[-1] in (1, 3)
    return {
        "right": int(correct.sum()),
        "mistakes": analysis.frequent_mistakes(confusion),
        "confusion_svg": matrix and theme.svg(matrix, "confusion"),
        "reliability_svg": theme.svg(figures.reliability_diagram(bins), "reliability"),
        "wrong": [
            {
                "row": row,
                "true": names[evaluation.labels[row]],
                "predicted": names[predicted[row]],
                "probability": probabilities[row, predicted[row]],
                "probability_of_true": probabilities[row, evaluation.labels[row]],
                "picture": _data_uri(image) if drawable else None,
                "small": max(image.shape[:2]) <= 64,
            }
            for row, image in zip(evaluation.wrong_rows, evaluation.wrong_images, strict=True)
        ],
    }


def _features(evaluation: Evaluation, names: list[str]) -> dict[str, Any]:
    """t-SNE of the features at every depth, as in CORSD's Fig. 2, where there are enough samples for one."""
    samples = len(evaluation.feature_labels)
    if samples < analysis.FEWEST_SAMPLES:
        return {"samples": samples, "maps": [], "features_svg": None}
    depths = tqdm(evaluation.features, desc="t-SNE of the features", unit="depth", leave=False, disable=None)
    maps = [analysis.feature_map(name, values, evaluation.feature_labels) for name, values in depths]
    drawing = figures.feature_maps(maps, evaluation.feature_labels, names)
    return {"samples": samples, "maps": maps, "features_svg": theme.svg(drawing, "features")}


def _data_uri(image: np.ndarray) -> str:
    """image: [H, W, C] uint8 with one or three channels."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
