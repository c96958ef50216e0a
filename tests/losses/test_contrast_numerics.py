"""The multi-view contrast in blocks, in little memory, in few passes and at low precision."""

import itertools

import pytest
import torch
from torch import Tensor

from classmates.losses import negatives as negatives_module
from classmates.losses.contrast import anchor_log_mean
from classmates.losses.negatives import ClassOrder, all_negatives
from tests.losses.conftest import (
    BATCH,
    PEERS,
    TEMPERATURE,
    Case,
    K,
    contrast_log_mean,
    contrast_loss,
    each_draw,
    negatives_of,
    published,
    unit,
)


@each_draw
@pytest.mark.parametrize("size", [1, 6, 15])
def test_block_size_changes_nothing(draw, size, monkeypatch):
    case = Case(draw, k=20)

    def value_and_gradient() -> tuple[Tensor, Tensor]:
        loss = contrast_loss(case.embeddings, case.positives("bank"), case.negatives, temperature=TEMPERATURE)
        return loss.detach(), torch.autograd.grad(loss, case.embeddings)[0]

    whole = value_and_gradient()
    assert len(list(case.negatives.blocks())) == 1
    monkeypatch.setitem(negatives_module.ROWS_PER_BLOCK, "cpu", size)
    assert len(list(case.negatives.blocks())) > 1
    torch.testing.assert_close(value_and_gradient(), whole)


@each_draw
def test_nothing_kept_for_backward_grows_with_the_bank_or_k(draw):
    def saved_bytes(samples: int, k: int) -> int:
        case = Case(draw, samples=samples, k=k)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            contrast_loss(case.embeddings, case.positives("bank"), case.negatives, temperature=TEMPERATURE)
        return sum(sizes)

    assert 0 < saved_bytes(5000, 500) == saved_bytes(30, 5)


@each_draw
def test_autocast_and_half_precision_embeddings_leave_the_exponentials_in_float32(draw):
    case = Case(draw, dtype=torch.float32)
    embeddings = case.embeddings.detach().float()
    outside = contrast_loss(embeddings, embeddings, case.negatives, temperature=TEMPERATURE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = contrast_loss(embeddings, embeddings, case.negatives, temperature=TEMPERATURE)
    half = embeddings.bfloat16().requires_grad_()
    rounded = contrast_loss(half, half, case.negatives, temperature=TEMPERATURE)
    rounded.backward()
    assert outside.dtype == inside.dtype == rounded.dtype == torch.float32
    assert outside == inside
    torch.testing.assert_close(rounded, outside, rtol=1e-2, atol=0)
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("normaliser", ["batch", "anchor"])
def test_a_tiny_temperature_does_not_overflow(normaliser):
    case = Case(all_negatives, dtype=torch.float32)
    embeddings = case.embeddings.detach().float().requires_grad_()
    if normaliser == "anchor":
        normaliser = anchor_log_mean(embeddings, case.rows, 0.01)
    loss = contrast_loss(embeddings, embeddings, case.negatives, temperature=0.01, normaliser=normaliser)
    loss.backward()
    expected = published(case.embeddings, case.embeddings, case.negatives, normaliser, temperature=0.01)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    assert embeddings.grad.isfinite().all()


@each_draw
@pytest.mark.parametrize(("kind", "passes"), [("batch", 2), ("anchor", 1), ("first_batch", 1)])
def test_a_known_normaliser_saves_a_pass_and_is_measured_again_along_the_way(draw, kind, passes, monkeypatch):
    case = Case(draw)
    normaliser, gone_through = case.normaliser(kind), []
    blocks = type(case.negatives).blocks
    monkeypatch.setattr(type(case.negatives), "blocks", lambda self: gone_through.append(1) or blocks(self))
    arguments = (case.embeddings, case.positives("bank"), case.negatives)
    log_mean = contrast_log_mean(*arguments, temperature=TEMPERATURE, normaliser=normaliser)
    assert len(gone_through) == passes
    assert not log_mean.requires_grad
    torch.testing.assert_close(log_mean, contrast_log_mean(*arguments, temperature=TEMPERATURE))
    for a, b in itertools.permutations(range(PEERS), 2):
        means = []
        for i in range(BATCH):
            negative = [case.embeddings[a, i] @ row for row in negatives_of(case.negatives, b, i)]
            e = torch.stack([case.embeddings[a, i] @ case.rows[b, case.indices[i]], *negative]).div(TEMPERATURE).exp()
            means.append((e[0] + K * e[1:].mean()) / (K + 1))
        torch.testing.assert_close(log_mean[a, b], torch.stack(means).mean().log())


def test_thousands_of_small_ratios_keep_their_value_in_float32():
    torch.manual_seed(0)
    classes = ClassOrder(torch.arange(6000) % 10)
    rows, embeddings = unit(2, 6000, 16), unit(2, 4, 16)

    def value_and_gradient(dtype: torch.dtype) -> list[Tensor]:
        anchors = embeddings.to(dtype).requires_grad_()
        negatives = all_negatives(rows.to(dtype), classes, classes.labels[:4], 16384)
        loss = contrast_loss(anchors, anchors, negatives, temperature=0.07)
        return [loss.detach().double(), *torch.autograd.grad(loss, anchors)]

    (value, gradient), (exact, exact_gradient) = value_and_gradient(torch.float32), value_and_gradient(torch.float64)
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=0)
    assert (gradient - exact_gradient).norm() < 1e-5 * exact_gradient.norm()
