"""Logits of queries against prototypes, against loops over every pair in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from classmates.losses.prototypes import (
    episode_logits,
    episode_targets,
    prototype_logits,
    prototypes,
    prototypical_loss,
)

EPISODES, WAY, SHOT, QUERIES, WIDTH = 3, 4, 2, 5, 7


@pytest.fixture
def embeddings():
    random = torch.Generator().manual_seed(0)
    return torch.randn(EPISODES, WAY, SHOT + QUERIES, WIDTH, generator=random)


def slow_logits(episode, shot, distance, scale):
    """One query and one class at a time."""
    episode = episode.double()
    rows = []
    for label in range(len(episode)):
        for query in episode[label, shot:]:
            row = []
            for support in episode[:, :shot]:
                if distance == "euclidean":
                    row.append(-scale * sum((a - b) ** 2 for a, b in zip(query, sum(support) / shot, strict=True)))
                else:
                    centre = sum(one / one.norm() for one in support)
                    row.append(scale * (query @ centre) / (query.norm() * centre.norm()))
            rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize(("distance", "scale"), [("euclidean", 1.0), ("euclidean", 0.25), ("cosine", 10.0)])
def test_probabilities_are_those_of_every_pair_on_its_own(embeddings, distance, scale):
    logits = episode_logits(embeddings, SHOT, distance=distance, scale=scale)
    assert logits.shape == (EPISODES, WAY * QUERIES, WAY)
    slow = torch.stack([slow_logits(episode, SHOT, distance, scale) for episode in embeddings])
    torch.testing.assert_close(logits.softmax(-1).double(), slow.softmax(-1), rtol=1e-4, atol=1e-6)
    loss = prototypical_loss(logits)
    truth = torch.tensor([label for label in range(WAY) for _ in range(QUERIES)])
    expected = torch.stack([F.cross_entropy(episode, truth) for episode in slow]).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_all_distances(embeddings):
    embeddings = embeddings.double().requires_grad_()
    centres = embeddings[:, :, :SHOT].mean(2)
    distances = (embeddings[:, :, SHOT:].flatten(1, 2)[:, :, None] - centres[:, None]).square().sum(-1)
    slow = F.cross_entropy(-distances.flatten(0, 1), episode_targets(WAY, QUERIES).repeat(EPISODES))
    (expected,) = torch.autograd.grad(slow, embeddings)
    (found,) = torch.autograd.grad(prototypical_loss(episode_logits(embeddings, SHOT)), embeddings)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_moving_and_turning_all_embeddings_changes_no_probability(embeddings):
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))).Q
    moved = embeddings @ turn + torch.arange(WIDTH)
    first, second = (episode_logits(one, SHOT).softmax(-1) for one in (embeddings, moved))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
    longer = episode_logits(3 * embeddings, SHOT, distance="cosine")
    torch.testing.assert_close(longer, episode_logits(embeddings, SHOT, distance="cosine"))


def test_known_values():
    centres = prototypes(torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 5.0]]]))
    assert centres.tolist() == [[1, 0], [0, 4]]
    # Distances of (1, 1): 1 and 10, which differ by 9.
    row = prototype_logits(torch.tensor([[1.0, 1.0]]), centres)[0]
    assert (row[0] - row[1]).item() == pytest.approx(9)
    same = torch.ones(1, WAY, SHOT + QUERIES, WIDTH)
    assert prototypical_loss(episode_logits(same, SHOT)).item() == pytest.approx(math.log(WAY))
    assert episode_targets(3, 2).tolist() == [0, 0, 1, 1, 2, 2]


def test_logits_are_float32_under_autocast(embeddings):
    embeddings = 30 * embeddings
    expected = episode_logits(embeddings, SHOT)
    with torch.autocast("cpu", torch.bfloat16):
        found = episode_logits(embeddings, SHOT)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert episode_logits(embeddings.bfloat16(), SHOT).dtype == torch.float32
