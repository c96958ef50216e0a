"""Votes, ranks and targets by Zipf's law, against loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.losses.zipf import count_votes, rank, zipf_divergence, zipf_targets


def by_hand(logits, places, labels):
    """KL(q ‖ p̂) image by image: votes, ranks, 1/rank without the true class, in Python's float64."""
    total = 0.0
    for z, maps, y in zip(logits.tolist(), places.flatten(2).tolist(), labels.tolist(), strict=True):
        classes = range(len(z))
        votes = [0] * len(z)
        for place in range(len(maps[0])):
            votes[max(classes, key=lambda c: maps[c][place])] += 1
        ranks = [1 + sum(votes[other] > votes[c] for other in classes) for c in classes]
        wrong = [c for c in classes if c != y]
        law = sum(1 / ranks[c] for c in wrong)
        rest = sum(math.exp(z[c]) for c in wrong)
        for c in wrong:
            q = 1 / ranks[c] / law
            total += q * math.log(q * rest / math.exp(z[c]))
    return total / len(labels)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(3, 9), st.integers(1, 4))
def test_the_divergence_is_the_formula(seed, count, classes, side):
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=random)
    places = torch.randn(count, classes, side, side + 1, generator=random)
    labels = torch.randint(classes, (count,), generator=random)
    loss = zipf_divergence(logits, zipf_targets(count_votes(places), labels), labels)
    assert loss.item() == pytest.approx(by_hand(logits, places, labels), rel=1e-4, abs=1e-6)


def test_ties_share_the_best_rank_and_the_unseen_come_last():
    assert rank(torch.tensor([[4.0, 0.0, 7.0, 4.0, 0.0]])).tolist() == [[2, 4, 1, 2, 4]]


def test_targets_at_known_values():
    votes = torch.tensor([[5.0, 3.0, 1.0, 0.0]])
    torch.testing.assert_close(zipf_targets(votes, torch.tensor([0])), torch.tensor([[6.0, 4.0, 3.0]]) / 13)
    torch.testing.assert_close(zipf_targets(votes, torch.tensor([3])), torch.tensor([[6.0, 3.0, 2.0]]) / 11)


def test_the_true_class_gets_no_gradient_and_the_others_prediction_less_target():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, targets = torch.tensor([0, 2, 4]), torch.tensor([0.4, 0.3, 0.2, 0.1]).expand(3, -1)
    zipf_divergence(logits, targets, labels).backward()
    for row, z, y in zip(logits.grad, logits.detach(), labels, strict=True):
        wrong = [c for c in range(5) if c != y]
        assert row[y] == 0
        torch.testing.assert_close(row[wrong], (z[wrong].softmax(0) - targets[0]) / 3)


def test_nothing_to_learn_where_the_predictions_follow_the_law():
    targets = torch.tensor([[0.5, 0.3, 0.2]])
    logits = torch.tensor([[9.0, *targets[0].log()]])
    assert zipf_divergence(logits, targets, torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)
