"""Predictions that spread through the batch: the linear system against repeated mixing in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.losses.propagation import propagate, propagated_kl


def draw(seed, batch, classes=5, dimension=4):
    random = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, dimension, generator=random, dtype=torch.float64)
    return embeddings, torch.randn(batch, classes, generator=random, dtype=torch.float64)


def mixed_often(embeddings, predictions, omega, times=2000):
    """Q ← ω A Q + (1 − ω) P, again and again; A made row by row."""
    rows = embeddings / embeddings.norm(dim=1, keepdim=True)
    affinity = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        affinity[i, others] = torch.stack([row @ rows[j] for j in others]).softmax(0)
    mixture = predictions
    for _ in range(times):
        mixture = omega * affinity @ mixture + (1 - omega) * predictions
    return mixture


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99]))
def test_the_solution_is_what_mixing_comes_to(seed, batch, omega):
    embeddings, logits = draw(seed, batch)
    predictions = logits.softmax(1)
    found = propagate(embeddings, predictions, omega)
    torch.testing.assert_close(found.double(), mixed_often(embeddings, predictions, omega), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(batch), rtol=0, atol=1e-4)


def test_the_loss_is_the_formula_and_its_targets_are_constants():
    embeddings, logits = draw(0, 6)
    embeddings, logits = embeddings.requires_grad_(), logits.requires_grad_()
    loss = propagated_kl(logits, embeddings, 0.5, 4.0)
    p = (logits.detach() / 4).softmax(1)
    q = mixed_often(embeddings.detach(), p, 0.5)
    assert loss.item() == pytest.approx((q * (q / p).log()).sum(1).mean().item(), rel=1e-4)
    loss.backward()
    torch.testing.assert_close(logits.grad, (p - q) / 4 / 6, rtol=1e-3, atol=1e-6)
    assert embeddings.grad is None


def test_an_image_alone_keeps_its_prediction():
    embeddings, predictions = draw(0, 1)
    torch.testing.assert_close(propagate(embeddings, predictions, 0.5), predictions.float())


def test_float32_whatever_the_autocast():
    embeddings, logits = draw(1, 8)
    plain = propagated_kl(logits, embeddings, 0.9, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = propagated_kl(logits, embeddings, 0.9, 2.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain)


def test_images_that_agree_have_nothing_to_learn():
    embeddings, logits = draw(2, 4)
    assert propagated_kl(logits[:1].expand(4, -1), embeddings, 0.5, 4.0).item() == pytest.approx(0, abs=1e-6)
