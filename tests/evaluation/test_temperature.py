"""Temperature scaling: least likelihood, invariances, and what no temperature can be told from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.errors import UserError
from classmates.evaluation.temperature import Calibrated, fitted_temperature


def drawn(seed, images=60, classes=4, scale=3.0):
    random = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, classes, generator=random)
    labels = torch.multinomial((logits / scale).softmax(1), 1, generator=random)[:, 0]  # many of them wrong
    return logits, labels


def loss_by_hand(logits, labels, temperature):
    total = 0.0
    for row, label in zip(logits.double().numpy() / temperature, labels.tolist(), strict=True):
        total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[label]
    return total / len(labels)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_no_other_temperature_is_likelier(seed, scale):
    logits, labels = drawn(seed, scale=scale)
    found = fitted_temperature(logits, labels)
    least = loss_by_hand(logits, labels, found)
    grid = [found * factor for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2)]
    assert all(least <= loss_by_hand(logits, labels, other) + 1e-9 for other in grid)


def test_it_follows_the_scale_of_logits_and_no_shift():
    logits, labels = drawn(0)
    found = fitted_temperature(logits, labels)
    assert fitted_temperature(7 * logits, labels) == pytest.approx(7 * found, rel=1e-4)
    assert fitted_temperature(logits + torch.arange(60)[:, None], labels) == pytest.approx(found, rel=1e-4)


def test_logits_that_are_drawn_from_have_temperature_1():
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(40_000, 5, generator=random)
    labels = torch.multinomial(logits.softmax(1), 1, generator=random)[:, 0]
    assert fitted_temperature(logits, labels) == pytest.approx(1, abs=0.03)


def test_what_no_temperature_can_be_told_from():
    with pytest.raises(UserError, match=r"all 5 validation images are classified right.*val_fraction"):
        fitted_temperature(torch.eye(5), torch.arange(5))
    with pytest.raises(UserError, match="no more of the validation images than chance"):
        fitted_temperature(-torch.eye(5), torch.arange(5))


def test_calibrated_divides_logits():
    logits = torch.randn(3, 4)
    assert torch.equal(Calibrated(torch.nn.Identity(), 2.5)(logits), logits / 2.5)
