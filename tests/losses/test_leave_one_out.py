import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.losses.leave_one_out import dissimilarity, distances, fitted_scale, leave_one_out, reach

DISTANCES = ["euclidean", "cosine"]


def embedded(counts=(3, 2, 4), features=5, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return random.normal(size=(len(labels), features)) + 3 * labels[:, None], labels


def slow_distance(one, other, distance):
    if distance == "euclidean":
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def slow_mean(points, distance):
    rows = [np.asarray(point) / (np.linalg.norm(point) if distance == "cosine" else 1) for point in points]
    return sum(rows) / len(rows)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances(distance):
    embeddings, _ = embedded()
    centres = embeddings[:4] * 2 - 1
    found = distances(torch.tensor(embeddings, dtype=torch.float32), torch.tensor(centres), distance)
    assert found.dtype == torch.float64
    expected = [[slow_distance(one, other, distance) for other in centres] for one in embeddings]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_squares_are_what_euclidean_logits_are_made_of():
    assert dissimilarity(torch.tensor([2.0, 0.5]), "euclidean").tolist() == [4, 0.25]
    assert dissimilarity(torch.tensor([2.0, 0.5]), "cosine").tolist() == [2, 0.5]


@pytest.mark.parametrize("distance", DISTANCES)
def test_each_image_is_judged_by_the_others_of_its_class(distance):
    embeddings, labels = embedded((3, 1, 2, 4))
    order = np.random.default_rng(1).permutation(len(labels))
    embeddings, labels = embeddings[order], labels[order]
    found, kept = leave_one_out(torch.tensor(embeddings), torch.tensor(labels), distance)
    rows = []
    groups = [np.flatnonzero(labels == number) for number in range(4)]
    for at, label in enumerate(labels):
        if label == 1:  # the only one
            continue
        row = []
        for number, group in enumerate(groups):
            lacking = [at] if number == label else group if len(group) > 1 else [None]
            centres = [slow_mean(embeddings[[one for one in group if one != other]], distance) for other in lacking]
            row.append(np.mean([slow_distance(embeddings[at], centre, distance) for centre in centres]))
        rows.append(row)
    assert kept.tolist() == [label for label in labels if label != 1]
    np.testing.assert_allclose(found, rows, rtol=1e-6)


def test_of_two_images_a_class_no_class_is_favoured():
    """Where labels mean nothing, each of two classes is the nearest half of the time."""
    random = torch.Generator().manual_seed(0)
    right = []
    for _ in range(400):
        found, kept = leave_one_out(torch.randn(4, 20, generator=random), torch.tensor([0, 0, 1, 1]), "euclidean")
        right.append((found.argmin(1) == kept).double())
    assert torch.cat(right).mean() == pytest.approx(0.5, abs=0.05)


def test_of_one_image_a_class_nothing_is_left():
    found, kept = leave_one_out(torch.eye(3), torch.arange(3), "euclidean")
    assert found.shape == (0, 3)
    assert len(kept) == 0


def cross_entropy(scale, left_out, labels, distance):
    count, classes = left_out.shape
    total = 0.0
    for row, label in zip(dissimilarity(left_out, distance).tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(math.exp(-scale * value) for value in row))
        for number, value in enumerate(row):
            target = (count + 1) / (count + 2) if number == label else 1 / (count + 2) / (classes - 1)
            total += target * (scale * value + norm)
    return total


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_scale_is_the_best_one(distance):
    embeddings, labels = embedded(seed=3)
    left_out, kept = leave_one_out(torch.tensor(embeddings), torch.tensor(labels), distance)
    scale = fitted_scale(left_out, kept, distance)
    best = cross_entropy(scale, left_out, kept, distance)
    for factor in (0.5, 0.9, 0.98, 1.02, 1.1, 2):
        assert cross_entropy(scale * factor, left_out, kept, distance) > best - 1e-4


def test_probabilities_of_a_few_images_that_are_all_told_apart_are_not_1():
    embeddings, labels = embedded((5, 5), seed=1)
    embeddings[labels == 1] += 1000
    left_out, kept = leave_one_out(torch.tensor(embeddings), torch.tensor(labels), "euclidean")
    scale = fitted_scale(left_out, kept, "euclidean")
    right = (-scale * left_out.square()).softmax(1)[torch.arange(10), kept]
    assert right.mean() == pytest.approx(11 / 12, abs=0.01)


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(0, 5))
def test_longer_embeddings_change_no_probability(factor, seed):
    embeddings, labels = embedded(seed=seed)
    probabilities = []
    for scaled in (embeddings, factor * embeddings):
        left_out, kept = leave_one_out(torch.tensor(scaled), torch.tensor(labels), "euclidean")
        scale = fitted_scale(left_out, kept, "euclidean")
        probabilities.append((-scale * left_out.square()).softmax(1))
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=2e-2)


def test_the_reach_is_the_conformal_quantile():
    own = torch.arange(1, 101)[torch.randperm(100)].double()
    assert reach(own) == 96  # ⌈101 · 0.95⌉
    assert reach(own[own <= 19]) == 19
    assert reach(own[own <= 5]) == 5
    assert reach(own, share=0.5) == 51


def test_of_new_images_the_share_that_is_within_reach_is_95_percent():
    random = torch.Generator().manual_seed(0)
    beyond = []
    for _ in range(2000):
        draws = torch.rand(60, generator=random)
        beyond.append((draws[30:] > reach(draws[:30])).double().mean())
    assert torch.stack(beyond).mean() == pytest.approx(1 / 31, abs=0.005)  # ⌈31 · 0.95⌉ = 30 of 30
