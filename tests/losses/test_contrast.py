"""Multi-view contrast against loops written from MCL-OKD's Eq. 6 to 8, with Z and N in them."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from classmates.errors import UserError
from classmates.losses.contrast import anchor_log_mean, sum_of_log1p
from classmates.losses.negatives import (
    ClassOrder,
    CommonNegatives,
    Negatives,
    all_negatives,
    independent_negatives,
    shared_negatives,
)
from tests.losses.conftest import (
    BATCH,
    DIMENSION,
    DRAWS,
    PEERS,
    SAMPLES,
    TEMPERATURE,
    Case,
    K,
    contrast_log_mean,
    contrast_loss,
    each_draw,
    each_normaliser,
    published,
    unit,
)

NORMALISERS = ("batch", "anchor", "first_batch")
PRECISIONS = {
    "float64": (torch.float64, False, 1e-8),
    "float32": (torch.float32, False, 1e-5),
    "bfloat16": (torch.bfloat16, True, 2e-2),
    "bfloat16 in float32": (torch.bfloat16, False, 1e-5),  # the same rows, but the products are float32's
}
"""Of the rows; whether their products are in bfloat16; and how far results may be off."""
COMBINED = [
    (draw, normaliser, positive, precision)
    for precision in PRECISIONS
    for number, draw in enumerate(DRAWS)
    for positive in ("live", "bank")
    # All of them in float64; in the others each with one draw, and all draws with either kind of positives.
    for normaliser in (NORMALISERS if precision == "float64" else NORMALISERS[number : number + 1])
]


@pytest.mark.parametrize(("draw", "normaliser", "positive", "precision"), COMBINED)
def test_value_and_gradient_are_those_of_the_equations(draw, normaliser, positive, precision, monkeypatch):
    dtype, multiplies, tolerance = PRECISIONS[precision]
    monkeypatch.setattr("classmates.losses.blocks.has_bfloat16", lambda device: multiplies)
    case = Case(DRAWS[draw], dtype=dtype)
    positives, normaliser = case.positives(positive), case.normaliser(normaliser)

    loss = contrast_loss(case.embeddings, positives, case.negatives, temperature=TEMPERATURE, normaliser=normaliser)
    expected = published(case.embeddings, positives, case.negatives, normaliser)

    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    gradient, expected_gradient = (torch.autograd.grad(term, case.embeddings)[0] for term in (loss, expected))
    assert (gradient - expected_gradient).norm() <= tolerance * expected_gradient.norm()


@each_draw
@each_normaliser
def test_rows_that_are_not_written_are_no_negatives(draw, normaliser):
    written = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(3)) < 0.4
    case = Case(draw, written=written)
    case.rows[:, ~written] = 1e3  # would show
    positives = case.positives("live")
    normaliser = case.normaliser(normaliser) if normaliser == "batch" else torch.full((PEERS, PEERS), 0.3).double()
    loss = contrast_loss(case.embeddings, positives, case.negatives, temperature=TEMPERATURE, normaliser=normaliser)
    expected = published(case.embeddings, positives, case.negatives, normaliser)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(term, case.embeddings)[0] for term in (loss, expected)))


@each_draw
def test_with_no_row_written_the_positives_alone_teach(draw):
    case = Case(draw, written=torch.zeros(SAMPLES, dtype=torch.bool))
    loss = contrast_loss(case.embeddings, case.positives("live"), case.negatives, temperature=TEMPERATURE)
    exponentials = (torch.einsum("aid,bid->abi", case.embeddings, case.embeddings) / TEMPERATURE).exp()
    pairs = exponentials[~torch.eye(PEERS, dtype=torch.bool)].detach()  # ē is the mean of e⁺
    torch.testing.assert_close(loss.detach(), (1 + K * pairs.mean(1, keepdim=True) / pairs).log().mean(1).sum())
    assert torch.autograd.grad(loss, case.embeddings)[0].abs().sum() > 0.1


@each_draw
def test_the_kept_normaliser_of_a_batch_is_what_that_batch_uses(draw):
    case = Case(draw)
    arguments = (case.embeddings, case.positives("bank"), case.negatives)
    kept = contrast_log_mean(*arguments, temperature=TEMPERATURE)
    assert (kept - kept.T).abs().max() > 0.01
    torch.testing.assert_close(
        contrast_loss(*arguments, temperature=TEMPERATURE, normaliser=kept),
        contrast_loss(*arguments, temperature=TEMPERATURE, normaliser="batch"),
    )


@each_draw
def test_gradcheck_with_a_fixed_normaliser(draw):
    case = Case(draw, batch=3)
    value = case.normaliser("first_batch")
    assert torch.autograd.gradcheck(
        lambda v: contrast_loss(v, case.positives("bank"), case.negatives, temperature=TEMPERATURE, normaliser=value),
        case.embeddings,
    )


@each_draw
def test_only_the_anchors_receive_a_gradient(draw):
    case = Case(draw)
    positives = unit(*case.embeddings.shape).requires_grad_()
    negatives = draw(case.rows.requires_grad_(), case.classes, case.labels, K)
    contrast_loss(case.embeddings, positives, negatives, temperature=TEMPERATURE).backward()
    assert case.embeddings.grad.abs().min(dim=-1).values.min() > 0
    assert positives.grad is None
    assert case.rows.grad is None


def test_each_pair_teaches_its_anchor_even_with_live_positives():
    case = Case(all_negatives)
    loss = contrast_loss(case.embeddings, case.embeddings, case.negatives, temperature=TEMPERATURE)
    (gradient,) = torch.autograd.grad(loss, case.embeddings)
    for a in range(PEERS):
        pairs = [(a, b) for b in range(PEERS) if b != a]
        own = published(case.embeddings, case.embeddings, case.negatives, "batch", pairs=pairs)
        (expected,) = torch.autograd.grad(own, case.embeddings)
        torch.testing.assert_close(gradient[a], expected[a])
        assert expected[[b for b in range(PEERS) if b != a]].abs().max() == 0


@pytest.mark.parametrize(
    "draw",
    [independent_negatives, shared_negatives, partial(shared_negatives, drawn=40)],
    ids=["independent", "shared", "shared, more than K"],
)
def test_drawn_negatives_are_all_negatives_in_expectation(draw):
    case = Case(all_negatives, peers=2, k=16)
    value, direction = case.normaliser("first_batch"), torch.randn_like(case.embeddings)

    def value_and_slope(negatives: Negatives) -> Tensor:
        loss = contrast_loss(
            case.embeddings, case.positives("bank"), negatives, temperature=TEMPERATURE, normaliser=value
        )
        (gradient,) = torch.autograd.grad(loss, case.embeddings)
        return torch.stack([loss.detach(), (gradient * direction).sum()])

    torch.manual_seed(1)
    draws = torch.stack([value_and_slope(draw(case.rows, case.classes, case.labels, 16)) for _ in range(500)])
    error = draws.mean(0) - value_and_slope(case.negatives)
    standard_error = draws.std(0) / len(draws) ** 0.5
    assert (error.abs() < 4 * standard_error).all()
    assert (standard_error < 0.02 * draws.mean(0).abs()).all()  # so that a wrong weight could not hide


@each_draw
def test_value_at_the_start_of_training(draw):
    torch.manual_seed(0)
    classes = ClassOrder(torch.arange(2000) % 100)
    embeddings, rows = unit(4, 64, 128).float(), unit(4, 2000, 128).float()
    negatives = draw(rows, classes, classes.labels[:64], 256)
    loss = contrast_loss(embeddings, rows[:, :64], negatives, temperature=0.1)
    assert loss.item() / 12 == pytest.approx(6.96, abs=0.08)  # as measured on the released code


@each_draw
@each_normaliser
def test_value_when_all_similarities_are_equal(draw, normaliser):
    case = Case(draw, k=256)
    same = unit(DIMENSION)
    embeddings, rows = same.expand_as(case.embeddings), same.expand_as(case.rows)
    negatives = draw(rows, case.classes, case.labels, 256)
    if normaliser == "anchor":
        normaliser = anchor_log_mean(embeddings, rows, TEMPERATURE)
    if normaliser == "first_batch":
        normaliser = contrast_log_mean(embeddings, embeddings, negatives, temperature=TEMPERATURE)
        off_diagonal = ~torch.eye(PEERS, dtype=torch.bool)
        torch.testing.assert_close(normaliser[off_diagonal], torch.full((6,), 1 / TEMPERATURE, dtype=torch.float64))
    loss = contrast_loss(embeddings, embeddings, negatives, temperature=TEMPERATURE, normaliser=normaliser)
    assert loss.item() / 6 == pytest.approx(math.log(257) + 256 * math.log1p(1 / 256))


@each_normaliser
def test_peers_are_interchangeable(normaliser):
    case = Case(shared_negatives)
    turned = torch.tensor([2, 0, 1])
    value = case.normaliser(normaliser)
    turned_value = value[turned][:, turned] if isinstance(value, Tensor) else value
    negatives = replace(case.negatives, rows=case.negatives.rows[turned])
    positives = case.positives("bank")
    loss = contrast_loss(case.embeddings, positives, case.negatives, temperature=TEMPERATURE, normaliser=value)
    again = contrast_loss(
        case.embeddings[turned], positives[turned], negatives, temperature=TEMPERATURE, normaliser=turned_value
    )
    torch.testing.assert_close(loss, again)
    torch.testing.assert_close(*(torch.autograd.grad(term, case.embeddings)[0] for term in (loss, again)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 2e-2)], ids=str)
def test_the_normaliser_of_an_anchor_is_a_sum_over_every_sample(dtype, tolerance):
    case = Case(all_negatives, dtype=dtype)
    log_mean = anchor_log_mean(case.embeddings, case.rows, TEMPERATURE)
    assert not log_mean.requires_grad
    embeddings = case.embeddings.detach()
    for a in range(PEERS):
        for b in range(PEERS):
            for i in range(BATCH):
                z = sum(math.exp(embeddings[a, i] @ row.double() / TEMPERATURE) for row in case.rows[b])
                expected = math.log(z / SAMPLES) if a != b else 0  # Eq. 6
                assert log_mean[a, b, i].item() == pytest.approx(expected, abs=tolerance)


def test_an_anchor_without_negatives_is_only_pulled():
    torch.manual_seed(0)
    embeddings = unit(2, 1, DIMENSION)
    negatives = CommonNegatives(
        rows=unit(2, 3, DIMENSION),
        labels=torch.tensor([1]),
        num_negatives=K,
        row_labels=torch.tensor([1, 1, 1]),
        counts=torch.tensor([0]),
    )
    loss = contrast_loss(embeddings, embeddings, negatives, temperature=TEMPERATURE, normaliser=torch.zeros(2, 2))
    similarity = (embeddings[0] @ embeddings[1].T).item()
    assert loss.item() == pytest.approx(2 * math.log1p(K * math.exp(-similarity / TEMPERATURE)))


def test_wrong_arguments_are_named():
    case = Case(all_negatives)
    embeddings, negatives = case.embeddings, case.negatives
    with pytest.raises(UserError, match="unknown normaliser 'Z': there are: batch"):
        contrast_loss(embeddings, embeddings, negatives, temperature=0.1, normaliser="Z")
    with pytest.raises(UserError, match=r"temperature of the contrast is 0; it must be above 0"):
        contrast_loss(embeddings, embeddings, negatives, temperature=0)
    with pytest.raises(ValueError, match=r"\(3, 4, 6\) and positives \(3, 5, 6\) must both be \(3, 5, 6\)"):
        contrast_loss(embeddings[:, :4], embeddings, negatives, temperature=0.1)
    with pytest.raises(ValueError, match=r"\(2, 5, 6\) and positives \(2, 5, 6\) must both be \(3, 5, 6\)"):
        contrast_log_mean(embeddings[:2], embeddings[:2], negatives, temperature=0.1)
    alone = all_negatives(case.rows[:1], case.classes, case.labels, K)
    with pytest.raises(UserError, match="1 peer cannot contrast with itself"):
        contrast_loss(embeddings[:1], embeddings[:1], alone, temperature=0.1)


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_logarithms_of_products_sum_to_those_of_the_numbers(halvings):
    for count in (0, 1, 2, 6, 7, 8, 96):
        for size in (1e-9, 1e-4, 1.0, 1e8):
            numbers = size * torch.rand(3, count)
            expected = numbers.double().log1p().sum(-1)
            found = sum_of_log1p(numbers, halvings).double()  # overwrites the numbers
            assert torch.allclose(found, expected, rtol=1e-6, atol=0), f"{count} of size {size}: {found}, {expected}"


@pytest.mark.parametrize("temperature", [0.02, 0.034, 0.05, 0.07, 0.1, 0.5, 5.0])
def test_the_largest_ratios_at_a_temperature_do_not_overflow(temperature):
    """Every negative lies on the anchor, and the normaliser is as small as unit vectors allow."""
    rows = torch.full((2, 64, DIMENSION), DIMENSION**-0.5)
    labels = torch.tensor([0])
    negatives = CommonNegatives(
        rows=rows, labels=labels, num_negatives=1, counts=torch.tensor([64]), row_labels=torch.ones(64)
    )
    embeddings = rows[:, :1]
    least = torch.full((2, 2), -1 / temperature, dtype=torch.float64)

    loss = contrast_loss(embeddings, -embeddings, negatives, temperature=temperature, normaliser=least)

    each = math.log1p(math.exp(2 / temperature))
    positive = math.log(2.0)  # K·ē/e⁺ = 1
    assert loss.item() == pytest.approx(2 * (each + positive), rel=1e-5)
