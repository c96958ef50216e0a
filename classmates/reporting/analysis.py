"""The numbers behind the figures: confusion, reliability, and how well features at each depth cluster by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


class Mistake(NamedTuple):
    """``images`` out of ``total`` of class ``true`` were taken for class ``predicted``."""

    true: int
    predicted: int
    images: int
    total: int


def frequent_mistakes(confusion: Integers, most: int = 5) -> list[Mistake]:
    """Return the cells off the diagonal of ``confusion`` [K true, K predicted] of the largest counts, in order."""
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, confusion.shape)
    totals = confusion.sum(axis=1)
    return [
        Mistake(int(row), int(column), int(mistakes[row, column]), int(totals[row]))
        for row, column in zip(rows, columns, strict=True)
        if mistakes[row, column] > 0
    ]


class Reliability(NamedTuple):
    """By bin of the predicted class's probability: its mean, the share that was right, and how many images.

    All three are [bins]; the first two are NaN in an empty bin.
    """

    confidence: Floats
    accuracy: Floats
    images: Integers


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Sort predictions into bins of equal width over 0..1, as the calibration error does (Guo et al., ICML 2017, §2).

    confidence: [n], the probability given to the predicted class. correct: [n], whether that was the true one.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    number = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    count = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0/0 in an empty bin is the NaN that is promised
        return Reliability(
            np.bincount(number, confidence, bins) / count, np.bincount(number, correct, bins) / count, count
        )


class Points(NamedTuple):
    """What is laid out in the plane: features by the name of their depth, [s, C_i], of samples of classes labels [s].

    names: of the classes.
    """

    features: Sequence[tuple[str, Floats]]
    labels: Integers
    names: Sequence[str]


class FeatureMap(NamedTuple):
    """The features of one depth, laid out in the plane.

    points: [s, 2]. width: how many numbers the features had. silhouette: in -1..1, None where it is undefined.
    purity: the share of images whose nearest neighbour is of their own class. Both are of the features themselves,
    by Euclidean distance; the layout only shows them.
    """

    name: str
    points: Floats
    width: int
    silhouette: float | None
    purity: float


FEWEST_SAMPLES = 5  # t-SNE of fewer shows nothing


def feature_map(name: str, features: Floats, labels: Integers, seed: int = 0) -> FeatureMap:
    """Lay ``features`` [s, C] of classes ``labels`` [s] out by t-SNE (van der Maaten and Hinton, JMLR 2008), s >= 5.

    Perplexity 30, or (s - 1) / 3 where that is less. The same features and seed give the same picture.

    Raises:
        ValueError: fewer than five samples, or features that are not finite.
    """
    samples = len(features)
    if samples < FEWEST_SAMPLES:
        raise ValueError(f"{samples} samples; t-SNE needs at least {FEWEST_SAMPLES}")
    features = within_one(features)
    # A start along the principal components keeps the large-scale arrangement; features that are all alike have none.
    varied = np.count_nonzero(np.ptp(features, axis=0)) >= 2
    layout = TSNE(
        perplexity=min(30.0, (samples - 1) / 3),
        init="pca" if varied else "random",
        max_iter=500,  # twice the time of more moves the objective by 1 to 3 %
        random_state=seed,
    )
    with threadpool_limits(1):  # at this size threads wait for one another longer than they work
        points = layout.fit_transform(features)
    return FeatureMap(name, points, features.shape[1], *clustering(features, labels))


def within_one(features: Floats) -> Floats:
    """Return features [s, C] times the power of two that brings the largest to between 0.5 and 1.

    Neither t-SNE nor the measures of clustering depend on the scale; but squares of very large or small numbers are
    infinite or 0 in float32, where scikit-learn's t-SNE ends the process.
    """
    return np.ldexp(features, -np.frexp(np.abs(features).max())[1])


def clustering(features: Floats, labels: Integers) -> tuple[float | None, float]:
    """Measure how well ``features`` [s, C] cluster by class ``labels`` [s].

    Returns:
        The silhouette, in -1..1 or None where it is undefined, and the share of samples whose nearest neighbour is of
        their own class.
    """
    with threadpool_limits(1):
        neighbours = NearestNeighbors(n_neighbors=1).fit(features).kneighbors(return_distance=False)[:, 0]
        defined = 2 <= len(np.unique(labels)) < len(labels)
        silhouette = float(silhouette_score(features, labels)) if defined else None
    return silhouette, float(np.mean(labels[neighbours] == labels))
