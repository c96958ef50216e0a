"""Sections that only a classification run's page has: mistakes, their images, and calibration."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import confusion_matrix
from sklearn.utils.extmath import softmax

from classmates.reporting import analysis, figures, page, theme
from classmates.reporting.pictures import data_uri, drawable, is_small
from classmates.runs.reading import FinishedRun
from classmates.tasks.metrics import ECE

MOST_CLASSES_IN_A_MATRIX = 30


def values(run: FinishedRun) -> dict[str, Any]:
    """Return what ``classification.html.j2`` shows: confusion, calibration, and the images that are most wrong."""
    evaluation, names = run.evaluation, run.class_names
    probabilities = softmax(evaluation.logits)
    predicted = evaluation.logits.argmax(axis=1)
    correct = predicted == evaluation.labels
    confusion = confusion_matrix(evaluation.labels, predicted, labels=range(len(names)))
    bins = analysis.reliability(probabilities.max(axis=1), correct)
    matrix = figures.confusion_matrix(confusion, names) if len(names) <= MOST_CLASSES_IN_A_MATRIX else None
    shown = drawable(evaluation.wrong_images)
    error = run.record.test["student"][ECE].value
    return {
        "right": int(correct.sum()),
        "mistakes": analysis.frequent_mistakes(confusion),
        "most_classes": MOST_CLASSES_IN_A_MATRIX,
        "confusion_svg": matrix and theme.svg(matrix, "confusion"),
        "reliability_svg": theme.svg(figures.reliability_diagram(bins), "reliability"),
        "calibration_error": page.shown(error, run.record.protocol.metrics[ECE]),
        "wrong": [
            {
                "row": row,
                "true": names[evaluation.labels[row]],
                "predicted": names[predicted[row]],
                "probability": probabilities[row, predicted[row]],
                "probability_of_true": probabilities[row, evaluation.labels[row]],
                "picture": data_uri(image) if shown else None,
                "small": is_small(image),
            }
            for row, image in zip(evaluation.wrong_rows, evaluation.wrong_images, strict=True)
        ],
    }
