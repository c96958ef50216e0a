"""The numbers behind the report's figures."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from classmates.reporting.analysis import Mistake, feature_map, frequent_mistakes, reliability


def test_frequent_mistakes_are_the_largest_cells_off_the_diagonal() -> None:
    confusion = np.array([[90, 0, 7], [2, 50, 0], [0, 9, 1]])
    assert frequent_mistakes(confusion, most=2) == [Mistake(2, 1, 9, 10), Mistake(0, 2, 7, 97)]
    assert frequent_mistakes(confusion)[2:] == [Mistake(1, 0, 2, 52)]
    assert frequent_mistakes(np.diag([3, 4])) == []


def test_reliability_of_a_few_predictions() -> None:
    bins = reliability([0.1, 0.6, 0.7, 1.0], [False, True, False, True], bins=2)
    np.testing.assert_allclose(bins.images, [1, 3])
    np.testing.assert_allclose(bins.confidence, [0.1, 2.3 / 3])
    np.testing.assert_allclose(bins.accuracy, [0, 2 / 3])
    assert np.isnan(reliability([0.9], [True]).accuracy[:13]).all()


@given(st.integers(0, 2**32 - 1))
def test_reliability_gives_the_expected_calibration_error(seed: int) -> None:
    """The mean gap, weighted by the images of each bin, is what torchmetrics computes."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(64, 7, generator=generator, dtype=torch.float64)).softmax(1)
    labels = torch.randint(7, (64,), generator=generator)
    confidence, predicted = probabilities.max(1)
    bins = reliability(confidence, predicted == labels)
    gap = np.nansum(bins.images * np.abs(bins.confidence - bins.accuracy)) / bins.images.sum()
    expected = multiclass_calibration_error(probabilities, labels, num_classes=7, n_bins=15)
    assert gap == pytest.approx(float(expected), abs=1e-6)


def test_separate_classes_are_seen_as_such_and_random_ones_are_not() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = random.normal(size=(60, 5)) + 20 * labels[:, None]
    apart = feature_map("deep", features, labels)
    assert (apart.name, apart.width, apart.points.shape) == ("deep", 5, (60, 2))
    assert apart.purity == 1.0
    assert apart.silhouette is not None
    assert apart.silhouette > 0.8
    mixed = feature_map("shallow", features, random.permutation(labels))
    assert mixed.purity < 0.7
    assert mixed.silhouette is not None
    assert mixed.silhouette < 0.1


@pytest.mark.parametrize("scale", [1e-30, 1e10, 1e25, 1e36])
def test_features_of_any_size_are_laid_out(scale: float) -> None:
    """Squares of the largest are infinite in float32, of the smallest 0."""
    labels = np.arange(60) % 3
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) + 20 * labels[:, None]
    found = feature_map("large", (features * scale).astype(np.float32), labels)
    assert np.isfinite(found.points).all()
    assert found.purity == 1.0
    assert found.silhouette == pytest.approx(feature_map("usual", features, labels).silhouette, abs=1e-4)


def test_purity_counts_images_whose_nearest_neighbour_is_of_their_class() -> None:
    """On a line at 0, 1, 3, 7, 8: neighbours are 1, 0, 1, 8, 7."""
    features = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
    assert feature_map("line", features, np.array([0, 0, 1, 1, 1])).purity == pytest.approx(4 / 5)


def test_the_same_features_give_the_same_picture() -> None:
    features = np.random.default_rng(1).normal(size=(40, 4))
    labels = np.arange(40) % 2
    first, second = feature_map("a", features, labels), feature_map("a", features, labels)
    np.testing.assert_array_equal(first.points, second.points)


@pytest.mark.parametrize("features", [np.zeros((12, 3)), np.ones((12, 1)), np.arange(12.0)[:, None]])
def test_collapsed_features_can_still_be_drawn(features: np.ndarray) -> None:
    found = feature_map("collapsed", features, np.arange(12) % 2)
    assert np.isfinite(found.points).all()


def test_the_silhouette_of_a_single_class_is_undefined() -> None:
    found = feature_map("a", np.random.default_rng(0).normal(size=(10, 3)), np.zeros(10, int))
    assert found.silhouette is None
    assert found.purity == 1.0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="4 samples; t-SNE needs at least 5"):
        feature_map("a", np.zeros((4, 3)), np.zeros(4, int))
