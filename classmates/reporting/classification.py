"""The sections on a classifier's answers: its mistakes, the images most wrong, its classes and its calibration."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import confusion_matrix
from sklearn.utils.extmath import softmax

from classmates.reporting import analysis, figures, page, theme
from classmates.reporting.by_class import MOST_CLASSES_IN_A_TABLE, balanced_accuracy, by_class
from classmates.reporting.pictures import data_uri, drawable, is_small
from classmates.runs.reading import Evaluation, FinishedRun
from classmates.tasks.metrics import ECE
from classmates.tasks.protocol import ProtocolRecord, Scores

MOST_CLASSES_IN_A_MATRIX = 30
LONGEST_FILE = 64
"""How many letters of a file's name are under its picture: some three lines."""


def values(run: FinishedRun) -> dict[str, Any]:
    """Return what the page of a classification run shows beyond every run's."""
    return answers(run.evaluation, run.record.test["student"], run.record.protocol)


def answers(evaluation: Evaluation, scores: Scores, protocol: ProtocolRecord) -> dict[str, Any]:
    """Return what ``answers.html.j2`` shows: confusion, classes, calibration, and the most wrong images.

    evaluation, scores: a classifier's answers and what they are worth. protocol: by which it was judged.
    """
    names = evaluation.class_names
    probabilities = softmax(evaluation.logits)
    predicted = evaluation.logits.argmax(axis=1)
    correct = predicted == evaluation.labels
    confusion = confusion_matrix(evaluation.labels, predicted, labels=range(len(names)))
    bins = analysis.reliability(probabilities.max(axis=1), correct)
    matrix = figures.confusion_matrix(confusion, names) if len(names) <= MOST_CLASSES_IN_A_MATRIX else None
    shown = drawable(evaluation.wrong_images)
    # Runs of earlier versions, and images that come from no files, have none.
    files = evaluation.more.get("wrong_files", [None] * len(evaluation.wrong_rows))
    classes = by_class(confusion)
    return {
        "right": int(correct.sum()),
        "mistakes": analysis.frequent_mistakes(confusion),
        "classes": classes,
        "sizes": sorted({score.images for score in classes}),
        "balanced": balanced_accuracy(classes),
        "most_rows": MOST_CLASSES_IN_A_TABLE,
        "most_classes": MOST_CLASSES_IN_A_MATRIX,
        "confusion_svg": matrix and theme.svg(matrix, "confusion"),
        "reliability_svg": theme.svg(figures.reliability_diagram(bins), "reliability"),
        "calibration_error": page.shown(scores[ECE].value, protocol.metrics[ECE]),
        "wrong": [
            {
                "row": row,
                "true": names[evaluation.labels[row]],
                "predicted": names[predicted[row]],
                "probability": probabilities[row, predicted[row]],
                "probability_of_true": probabilities[row, evaluation.labels[row]],
                "picture": data_uri(image) if shown else None,
                "small": is_small(image),
                "file": file,
                "shortened": file and without_middle(file),
            }
            for row, image, file in zip(evaluation.wrong_rows, evaluation.wrong_images, files, strict=True)
        ],
    }


def without_middle(name: str, longest: int = LONGEST_FILE) -> str:
    """Return a name cut to so many letters: of a path, the first folders and the end tell most."""
    end = 2 * longest // 3
    return name if len(name) <= longest else f"{name[: longest - 1 - end]}…{name[-end:]}"
