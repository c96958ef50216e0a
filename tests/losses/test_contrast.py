"""Multi-view contrast against loops written from MCL-OKD's Eq. 6 to 8, with Z and N in them."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.errors import UserError
from classmates.losses import negatives as negatives_module
from classmates.losses.contrast import multi_view_contrast
from classmates.losses.negatives import (
    ClassOrder,
    CommonNegatives,
    IndependentNegatives,
    Negatives,
    all_negatives,
    independent_negatives,
    shared_negatives,
)

PEERS, BATCH, SAMPLES, DIMENSION, K, TEMPERATURE = 3, 5, 30, 6, 7, 0.2
DRAWS = {"independent": independent_negatives, "shared": shared_negatives, "all": all_negatives}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
each_normaliser = pytest.mark.parametrize("normaliser", ["batch", "anchor", "first_batch"])


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def contrast_loss(*arguments, **options) -> Tensor:
    return multi_view_contrast(*arguments, **options).loss


def contrast_log_mean(*arguments, **options) -> Tensor:
    return multi_view_contrast(*arguments, **options).log_mean


class Case:
    """Random banks and a batch: every sample has its class, and its row in the banks."""

    def __init__(
        self, draw, peers=PEERS, batch=BATCH, samples=SAMPLES, dimension=DIMENSION, k=K, dtype=torch.float64
    ):
        torch.manual_seed(0)
        self.classes = ClassOrder(torch.arange(samples) % 4)
        self.indices = torch.randperm(samples)[:batch]
        self.labels = self.classes.labels[self.indices]
        self.embeddings = unit(peers, batch, dimension).requires_grad_()
        self.rows = unit(peers, samples, dimension).to(dtype)
        self.negatives: Negatives = draw(self.rows, self.classes, self.labels, k)

    def positives(self, kind: str) -> Tensor:
        return self.embeddings if kind == "live" else self.rows[:, self.indices]

    def normaliser(self, kind: str) -> str | Tensor:
        if kind != "first_batch":
            return kind
        earlier = unit(*self.embeddings.shape)
        return contrast_log_mean(earlier, self.positives("bank"), self.negatives, temperature=TEMPERATURE)


def negatives_of(negatives: Negatives, peer: int, sample: int) -> list[Tensor]:
    """The rows of one peer's bank that one sample is contrasted with."""
    if isinstance(negatives, IndependentNegatives):
        return [negatives.rows[peer, j] for j in negatives.indices[sample]]
    own = negatives.labels[sample]
    return [row for row, c in zip(negatives.rows[peer], negatives.row_labels, strict=True) if c != own]


def published(embeddings, positives, negatives, normaliser, temperature=TEMPERATURE, pairs=None) -> Tensor:
    """Eq. 6 to 8 for each ordered pair and sample; the expectation of Eq. 8 is the mean over the given negatives."""
    n, k = SAMPLES, negatives.num_negatives
    total = torch.zeros((), dtype=torch.float64)
    for a, b in pairs or itertools.permutations(range(len(embeddings)), 2):
        positive, negative, z = [], [], []
        for i in range(embeddings.shape[1]):
            rows = negatives_of(negatives, b, i)
            positive.append(torch.exp(embeddings[a, i] @ positives[b, i].detach().double() / temperature))
            negative.append([torch.exp(embeddings[a, i] @ row.double() / temperature) for row in rows])
            z.append(n * (positive[i] + k * sum(negative[i]) / len(rows)).detach() / (k + 1))
        if isinstance(normaliser, Tensor):
            z = [n * normaliser[a, b].exp()] * len(z)
        elif normaliser == "batch":
            z = [sum(z) / len(z)] * len(z)
        for i in range(len(z)):
            posterior = [(e / z[i]) / (e / z[i] + k / n) for e in (positive[i], *negative[i])]
            rejected = [torch.log(1 - p) for p in posterior[1:]]
            total = total - (torch.log(posterior[0]) + k * sum(rejected) / len(rejected)) / len(z)
    return total


@each_draw
@each_normaliser
@pytest.mark.parametrize("positive", ["live", "bank"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str
)
def test_value_and_gradient_are_those_of_the_equations(draw, normaliser, positive, dtype, tolerance):
    case = Case(draw, dtype=dtype)
    positives, normaliser = case.positives(positive), case.normaliser(normaliser)

    loss = contrast_loss(case.embeddings, positives, case.negatives, temperature=TEMPERATURE, normaliser=normaliser)
    expected = published(case.embeddings, positives, case.negatives, normaliser)

    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    gradient, expected_gradient = (torch.autograd.grad(term, case.embeddings)[0] for term in (loss, expected))
    assert (gradient - expected_gradient).norm() <= tolerance * expected_gradient.norm()


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
    loss = contrast_loss(embeddings, embeddings, case.negatives, temperature=0.01, normaliser=normaliser)
    loss.backward()
    expected = published(case.embeddings, case.embeddings, case.negatives, normaliser, temperature=0.01)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    assert embeddings.grad.isfinite().all()


@each_draw
@pytest.mark.parametrize(("kind", "passes"), [("batch", 2), ("anchor", 2), ("first_batch", 1)])
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
    with pytest.raises(UserError, match="unknown normaliser 'Z': there are: anchor, batch"):
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
