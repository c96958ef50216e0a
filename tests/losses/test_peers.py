import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from classmates.losses.peers import ensemble_logits, peers_cross_entropy, softened_ensemble


def random_logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cross_entropy_by_hand(logits: Tensor, targets: Tensor) -> float:
    """Σ_m mean_B −Σ_c η_c log p_c, one probability at a time; targets are rows of probabilities."""
    total = 0.0
    for peer in logits.tolist():
        for row, target in zip(peer, targets.tolist(), strict=True):
            norm = math.log(sum(math.exp(z) for z in row))
            total -= sum(eta * (z - norm) for eta, z in zip(target, row, strict=True)) / len(peer)
    return total


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1), st.integers(1, 4), st.integers(1, 6), st.integers(2, 7))
def test_cross_entropy_is_the_sum_over_peers(seed: int, peers: int, batch: int, classes: int) -> None:
    logits = random_logits(seed, peers, batch, classes)
    labels = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))
    one_hot = torch.eye(classes)[labels]
    loss = peers_cross_entropy(logits, labels)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(cross_entropy_by_hand(logits, one_hot), rel=1e-5, abs=1e-6)
    soft = random_logits(seed + 1, batch, classes).softmax(-1)
    assert peers_cross_entropy(logits, soft).item() == pytest.approx(
        cross_entropy_by_hand(logits, soft), rel=1e-5, abs=1e-6
    )


def test_cross_entropy_of_the_undecided_is_log_classes_each() -> None:
    assert peers_cross_entropy(torch.zeros(3, 5, 10), torch.arange(5)).item() == pytest.approx(3 * math.log(10))


def test_each_peer_learns_as_if_alone() -> None:
    logits, labels = random_logits(0, 3, 5, 4).requires_grad_(), torch.tensor([0, 1, 2, 3, 0])
    peers_cross_entropy(logits, labels).backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - torch.eye(4)[labels]).detach() / 5)


def test_each_peer_meets_its_own_samples() -> None:
    """Permuting one peer's rows changes the loss; permuting all rows with their labels, or the peers, does not."""
    logits, labels = random_logits(0, 3, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    loss = peers_cross_entropy(logits, labels)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(peers_cross_entropy(logits[:, order], labels[order]), loss)
    torch.testing.assert_close(peers_cross_entropy(logits.flip(0), labels), loss)
    shuffled = logits.clone()
    shuffled[1] = logits[1, order]
    assert not torch.isclose(peers_cross_entropy(shuffled, labels), loss)


def test_ensemble_is_the_mean_and_teaches_every_peer() -> None:
    logits = random_logits(0, 4, 3, 5).requires_grad_()
    ensemble = ensemble_logits(logits)
    torch.testing.assert_close(
        ensemble[2, 1], (logits[0, 2, 1] + logits[1, 2, 1] + logits[2, 2, 1] + logits[3, 2, 1]) / 4
    )
    ensemble.sum().backward()
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 0.25))
    torch.testing.assert_close(ensemble_logits(logits[:1]), logits[0])


@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_is_computed_in_float32(autocast: bool) -> None:
    logits, labels = random_logits(0, 3, 4, 6).bfloat16(), torch.tensor([5, 0, 2, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss, ensemble = peers_cross_entropy(logits, labels), ensemble_logits(logits)
    assert loss.dtype == ensemble.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy_by_hand(logits, torch.eye(6)[labels]), rel=1e-5)
    torch.testing.assert_close(ensemble, logits.double().mean(0).float())


def test_softened_ensemble_has_the_mean_of_the_softened_probabilities() -> None:
    logits = 50 * torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    mean = (logits.double() / 2.0).softmax(-1).mean(0)
    torch.testing.assert_close(
        (softened_ensemble(logits, 2.0).double() / 2.0).softmax(-1), mean, rtol=1e-4, atol=1e-9
    )
    alone = softened_ensemble(logits[:1], 2.0)
    torch.testing.assert_close(alone, logits[0] - 2.0 * (logits[0] / 2.0).logsumexp(-1, keepdim=True))
