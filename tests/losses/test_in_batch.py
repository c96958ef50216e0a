"""The four terms of MCL in the batch, against loops in Python's float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from classmates.losses.in_batch import hard_contrast, hard_terms, similarities, soft_across, soft_within

TAU, T = 0.3, 2.0


def draw(seed, peers, batch, dimension=4):
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(peers, batch, dimension, generator=random, dtype=torch.float64), dim=-1)


def by_hand(embeddings, labels):
    """(VCL, soft VCL, ICL, soft ICL), image by image."""
    peers, batch = range(len(embeddings)), range(embeddings.shape[1])
    rows = embeddings.tolist()

    def row(a, b, i):
        return [sum(x * y for x, y in zip(rows[a][i], rows[b][j], strict=True)) / TAU for j in batch]

    def contrast(a, b):
        total, anchors = 0.0, 0
        for i in batch:
            s = row(a, b, i)
            others = sum(math.exp(s[j]) for j in batch if j != i)
            positives = [j for j in batch if j != i and labels[j] == labels[i]]
            if positives:
                anchors += 1
                total -= sum(math.log(math.exp(s[j]) / others) for j in positives) / len(positives)
        return total / max(anchors, 1)

    def kl(teacher, student):
        p, q = ([math.exp(value / T) for value in one] for one in (teacher, student))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)) / len(batch)

    pairs = [(a, b) for a in peers for b in peers if a != b]
    return (
        sum(contrast(a, a) for a in peers),
        sum(kl(row(b, b, i), row(a, a, i)) for a, b in pairs for i in batch),
        sum(contrast(a, b) for a, b in pairs),
        sum(kl(row(b, a, i), row(a, b, i)) for a, b in pairs for i in batch),
    )


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 7))
def test_terms_are_the_formulas(seed, peers, batch):
    embeddings = draw(seed, peers, batch)
    labels = torch.randint(3, (batch,), generator=torch.Generator().manual_seed(seed))
    similarity = similarities(embeddings, TAU)
    within, across = hard_terms(similarity, labels)
    found = within, soft_within(similarity, T), across, soft_across(similarity, T)
    assert [term.item() for term in found] == pytest.approx(by_hand(embeddings, labels), rel=1e-4, abs=1e-5)


def test_an_order_of_peers_or_images_means_nothing():
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    embeddings, shuffled = draw(0, 3, 6), torch.tensor([4, 0, 3, 1, 5, 2])
    moved = embeddings[[2, 0, 1]][:, shuffled]
    one, other = similarities(embeddings, TAU), similarities(moved, TAU)
    torch.testing.assert_close(hard_terms(one, labels), hard_terms(other, labels[shuffled]))
    torch.testing.assert_close(soft_within(one, T), soft_within(other, T))
    torch.testing.assert_close(soft_across(one, T), soft_across(other, T))


def test_equal_peers_agree_and_classes_that_lie_apart_have_no_contrast():
    labels = torch.tensor([0, 0, 1, 1])
    embeddings = torch.eye(2)[labels].expand(2, -1, -1)
    similarity = similarities(embeddings, 0.01)
    assert hard_contrast(similarity, labels).abs().max() < 1e-6
    assert soft_within(similarity, T) == soft_across(similarity, T) == 0


def test_images_without_a_companion_are_left_out_and_none_at_all_is_zero_with_finite_gradients():
    embeddings = draw(1, 2, 4).requires_grad_()
    similarity = similarities(embeddings, TAU)
    assert hard_contrast(similarity, torch.arange(4)).tolist() == [[0, 0], [0, 0]]
    alone = hard_contrast(similarity, torch.tensor([0, 0, 1, 2]))
    alone.sum().backward()
    assert embeddings.grad.isfinite().all()


def test_what_teaches_is_held_constant():
    """Of two peers, the gradient into one is that of its own row alone: (q − p)/(B·T) for p held constant."""
    similarity = similarities(draw(2, 2, 5), TAU).detach().requires_grad_()
    soft_across(similarity, T).backward()
    q = (similarity.detach() / T).softmax(-1)
    expected = (q - q.transpose(0, 1)) / 5 / T
    torch.testing.assert_close(similarity.grad, expected, rtol=1e-4, atol=1e-6)
