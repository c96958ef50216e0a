"""How right a classifier is about each class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score

from classmates.reporting.by_class import ClassScore, balanced_accuracy, by_class


def test_the_worst_class_is_first_and_says_what_it_was_taken_for() -> None:
    confusion = np.array([[90, 3, 7], [0, 50, 0], [1, 9, 10]])
    scores = by_class(confusion)
    assert scores == [ClassScore(2, 20, 10, 1, 9), ClassScore(0, 100, 90, 2, 7), ClassScore(1, 50, 50, None, 0)]
    assert [score.recall for score in scores] == [0.5, 0.9, 1.0]
    assert balanced_accuracy(scores) == pytest.approx(0.8)
    assert confusion.diagonal().tolist() == [90, 50, 10]  # as it was


def test_of_equal_shares_the_largest_class_is_first_and_then_the_first() -> None:
    confusion = np.array([[1, 1, 0, 0], [0, 2, 0, 2], [3, 0, 3, 0], [0, 1, 1, 2]])
    assert [(score.true, score.taken_for) for score in by_class(confusion)] == [(2, 0), (1, 3), (3, 1), (0, 1)]


def test_a_class_without_images_has_no_share() -> None:
    scores = by_class(np.array([[0, 0, 0], [4, 0, 0], [0, 0, 2]]))
    assert scores == [ClassScore(1, 4, 0, 0, 4), ClassScore(2, 2, 2, None, 0)]
    assert balanced_accuracy(scores) == 0.5
    assert by_class(np.zeros((3, 3), int)) == []


def test_a_single_class() -> None:
    assert by_class(np.array([[5]])) == [ClassScore(0, 5, 5, None, 0)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_shares_are_recalls_and_their_mean_is_over_classes(pairs: list[tuple[int, int]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    scores = by_class(confusion_matrix(true, predicted, labels=range(5)))
    recalls = recall_score(true, predicted, labels=sorted(set(true)), average=None)
    assert [score.recall for score in sorted(scores)] == pytest.approx(recalls)
    assert balanced_accuracy(scores) == pytest.approx(recalls.mean())
    assert sum(score.images for score in scores) == len(pairs)
