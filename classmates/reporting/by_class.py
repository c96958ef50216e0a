"""How right a classifier is about each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from classmates.reporting.analysis import Integers

MOST_CLASSES_IN_A_TABLE = 30


class ClassScore(NamedTuple):
    """``right`` of the ``images`` of class ``true`` are taken for it, and ``taken`` for ``taken_for``, its most
    frequent mistake.

    Classes are numbers; ``taken_for`` is None where all images are right.
    """

    true: int
    images: int
    right: int
    taken_for: int | None
    taken: int

    @property
    def recall(self) -> float:
        """The share of the images that are right, in 0..1."""
        return self.right / self.images


def by_class(confusion: Integers) -> list[ClassScore]:
    """Return a score for each class that has images, the lowest share first, and of equal ones the largest class.

    confusion: [K true, K predicted], counts of images.
    """
    found = [_score(true, row) for true, row in enumerate(confusion) if row.any()]
    return sorted(found, key=lambda score: (score.recall, -score.images))


def _score(true: int, row: Integers) -> ClassScore:
    """Return the score of a class. row: [K predicted], of its images."""
    others = row.copy()
    others[true] = 0
    taken_for = int(others.argmax())
    taken = int(others[taken_for])
    return ClassScore(true, int(row.sum()), int(row[true]), taken_for if taken else None, taken)


def balanced_accuracy(scores: Sequence[ClassScore]) -> float:
    """Return the mean over the classes of the share that is right, whatever their sizes: 0..1.

    scores: of one class at least.
    """
    return float(np.mean([score.recall for score in scores]))
