import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from classmates.errors import UserError
from classmates.losses.corsd import (
    auxiliary_distillation,
    auxiliary_task,
    logit_calibration,
    pair_targets,
    relation_distillation,
    triplet_relation,
)
from classmates.losses.soft_targets import Reduction

seeds = st.integers(0, 2**31 - 1)
stage_counts = st.integers(2, 5)
batches = st.integers(1, 6)


def random_relations(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def random_logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


# --- eq. 1: the triplet loss ---


@settings(max_examples=30)
@given(seeds, stage_counts, batches, st.floats(-0.5, 2.0))
def test_triplet_is_eq_1(seed: int, stages: int, batch: int, margin: float) -> None:
    positive, negative = random_relations(seed, stages, batch)
    expected = 0.0
    for p_row, n_row in zip(positive.tolist(), negative.tolist(), strict=True):
        expected += sum(max(p - n + margin, 0.0) for p, n in zip(p_row, n_row, strict=True)) / batch
    loss = triplet_relation(positive, negative, margin)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_triplet_gradient_is_constant_on_sigmoid_relations_at_margin_1() -> None:
    positive, negative = random_relations(0, 4, 5)
    positive.requires_grad_(), negative.requires_grad_()
    triplet_relation(positive, negative, 1.0).backward()
    torch.testing.assert_close(positive.grad, torch.full((4, 5), 1 / 5))
    torch.testing.assert_close(negative.grad, torch.full((4, 5), -1 / 5))


def test_triplet_rests_once_the_negative_is_further_by_more_than_the_margin() -> None:
    positive, negative = (
        torch.tensor([[0.0, 0.0]], requires_grad=True),
        torch.tensor([[2.5, 1.5]], requires_grad=True),
    )
    loss = triplet_relation(positive, negative, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.25)  # of the two, only the second is within the margin: 0.5 / 2
    assert positive.grad.tolist() == [[0.0, 0.5]]
    assert negative.grad.tolist() == [[0.0, -0.5]]


def test_triplet_of_undecided_relations_is_the_margin_per_stage() -> None:
    same = torch.full((4, 6), 0.5)
    assert triplet_relation(same, same).item() == pytest.approx(4.0)


# --- eq. 2: relation distillation ---


@settings(max_examples=30)
@given(seeds, stage_counts, batches, st.booleans())
def test_relation_distillation_is_eq_2(seed: int, stages: int, batch: int, detach: bool) -> None:
    positive, negative = random_relations(seed, stages, batch)
    expected = 0.0
    for i in range(stages - 1):
        for b in range(batch):
            expected += (positive[i, b].item() - positive[-1, b].item()) ** 2 / batch
            expected += (negative[i, b].item() - negative[-1, b].item()) ** 2 / batch
    loss = relation_distillation(positive, negative, detach_deepest=detach)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_relation_distillation_is_zero_where_all_stages_agree_and_blind_to_the_stages_order() -> None:
    positive, negative = random_relations(0, 4, 5)
    assert relation_distillation(positive[:1].repeat(3, 1), negative[:1].repeat(3, 1)).item() == 0
    order = torch.tensor([2, 0, 1, 3])
    loss = relation_distillation(positive, negative)
    torch.testing.assert_close(relation_distillation(positive[order], negative[order]), loss)
    torch.testing.assert_close(relation_distillation(negative, positive), loss)
    torch.testing.assert_close(relation_distillation(positive + 1, negative - 2), loss)


@pytest.mark.parametrize("detach", [True, False])
def test_relation_distillation_moves_the_shallow_stages(detach: bool) -> None:
    positive, negative = random_relations(0, 3, 4)
    positive.requires_grad_(), negative.requires_grad_()
    relation_distillation(positive, negative, detach_deepest=detach).backward()
    for relation in (positive, negative):
        difference = (relation[:-1] - relation[-1]).detach()
        torch.testing.assert_close(relation.grad[:-1], 2 * difference / 4)
        pull = torch.zeros(4) if detach else -2 * difference.sum(0) / 4
        torch.testing.assert_close(relation.grad[-1], pull)


# --- eq. 3 and L_NAT: the auxiliary classifiers' task ---


@settings(max_examples=20)
@given(seeds, stage_counts, batches)
def test_auxiliary_task_is_the_sum_over_stages(seed: int, stages: int, batch: int) -> None:
    logits = random_logits(seed, stages, batch, 6)
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.randint(6, (batch,), generator=generator)
    negatives = (anchors + torch.randint(1, 6, (batch,), generator=generator)) % 6
    hard, soft = 0.0, 0.0
    for stage in logits.tolist():
        for row, anchor, negative in zip(stage, anchors.tolist(), negatives.tolist(), strict=True):
            q = softmax(row)
            hard -= math.log(q[anchor]) / batch
            soft -= (0.5 * math.log(q[anchor]) + 0.5 * math.log(q[negative])) / batch
    assert auxiliary_task(logits, anchors).item() == pytest.approx(hard, rel=1e-5, abs=1e-6)
    assert auxiliary_task(logits, pair_targets(anchors, negatives, 6)).item() == pytest.approx(
        soft, rel=1e-5, abs=1e-6
    )


def test_auxiliary_task_trains_every_stage() -> None:
    logits, labels = random_logits(0, 3, 2, 4).requires_grad_(), torch.tensor([1, 3])
    auxiliary_task(logits, labels).backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - torch.eye(4)[labels]).detach() / 2)


def test_pair_targets_halve_between_the_two_classes() -> None:
    targets = pair_targets(torch.tensor([0, 3]), torch.tensor([2, 0]), 4)
    assert targets.tolist() == [[0.5, 0.0, 0.5, 0.0], [0.5, 0.0, 0.0, 0.5]]
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets, pair_targets(torch.tensor([2, 0]), torch.tensor([0, 3]), 4))


# --- eq. 4 and L_NLD: auxiliary distillation ---


def distillation_by_hand(logits: Tensor, temperature: float) -> float:
    """Σ_{i<k} mean_B Σ_c p_c (log p_c − log q_c), p the deepest stage's, q stage i's."""
    *shallow, deepest = logits.tolist()
    total = 0.0
    for stage in shallow:
        for row, teacher in zip(stage, deepest, strict=True):
            q, p = softmax(row, temperature), softmax(teacher, temperature)
            total += sum(p_c * math.log(p_c / q_c) for p_c, q_c in zip(p, q, strict=True)) / len(deepest)
    return total


@settings(max_examples=40)
@given(
    seeds,
    stage_counts,
    batches,
    st.floats(0.5, 10.0),
    st.sampled_from(["batchmean", "mean"]),
    st.booleans(),
)
def test_auxiliary_distillation_is_eq_4(
    seed: int, stages: int, batch: int, temperature: float, reduction: Reduction, detach: bool
) -> None:
    logits = random_logits(seed, stages, batch, 5)
    expected = distillation_by_hand(logits, temperature)
    expected /= 5 if reduction == "mean" else 1
    loss = auxiliary_distillation(logits, temperature, reduction=reduction, detach_deepest=detach)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_auxiliary_distillation_defaults() -> None:
    logits = random_logits(0, 4, 5, 7)
    assert auxiliary_distillation(logits).item() == pytest.approx(distillation_by_hand(logits, 3.0), rel=1e-5)
    agreed = logits[:1].repeat(4, 1, 1)
    assert auxiliary_distillation(agreed).item() == pytest.approx(0, abs=1e-6)


def test_auxiliary_distillation_vanishes_at_high_temperature_as_its_square() -> None:
    logits = random_logits(0, 3, 4, 5)
    assert auxiliary_distillation(logits, 1000.0).item() == pytest.approx(0, abs=1e-4)
    limit = 0.5 * (logits[:-1] - logits[-1]).var(dim=-1, correction=0).mean(-1).sum()
    assert 100.0**2 * auxiliary_distillation(logits, 100.0).item() == pytest.approx(limit.item(), rel=3e-2)


def test_auxiliary_distillation_teaches_the_shallow_stages_only() -> None:
    logits = random_logits(0, 3, 4, 5).requires_grad_()
    auxiliary_distillation(logits).backward()
    assert logits.grad[-1].abs().max() == 0
    difference = (logits / 3).softmax(-1)[:-1] - (logits / 3).softmax(-1)[-1]
    torch.testing.assert_close(logits.grad[:-1], difference.detach() / 3 / 4)


def test_auxiliary_distillation_moves_the_deepest_stage_on_request() -> None:
    logits = random_logits(0, 3, 4, 5).requires_grad_()
    auxiliary_distillation(logits, detach_deepest=False).backward()
    assert logits.grad[-1].abs().max() > 1e-3


# --- L_logit ---


def test_logit_calibration_is_the_difference() -> None:
    positive, negative = torch.tensor([0.2, 0.4, 0.9]), torch.tensor([0.8, 0.5, 0.1])
    assert logit_calibration(positive, negative).item() == pytest.approx(0.1 / 3, abs=1e-6)
    assert logit_calibration(positive, negative, reduction="sum").item() == pytest.approx(0.1, abs=1e-6)
    assert logit_calibration(positive, positive).item() == 0
    with pytest.raises(UserError, match="unknown reduction 'batchmean'"):
        logit_calibration(positive, negative, reduction="batchmean")  # type: ignore[arg-type]


@pytest.mark.parametrize(("reduction", "slope"), [("mean", 0.25), ("sum", 1.0)])
def test_logit_calibration_draws_positives_near_and_pushes_negatives_away(reduction: str, slope: float) -> None:
    positive, negative = random_relations(0, 4)
    positive.requires_grad_(), negative.requires_grad_()
    logit_calibration(positive, negative, reduction=reduction).backward()  # type: ignore[arg-type]
    assert positive.grad.tolist() == [slope] * 4
    assert negative.grad.tolist() == [-slope] * 4


# --- precision ---


@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_is_computed_in_float32(autocast: bool) -> None:
    positive, negative = (relation.bfloat16() for relation in random_relations(0, 3, 64))
    logits = random_logits(0, 3, 8, 5).bfloat16()
    labels = torch.arange(8) % 5
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        halves = [
            triplet_relation(positive, negative),
            relation_distillation(positive, negative),
            logit_calibration(positive[0], negative[0]),
            auxiliary_task(logits, labels),
            auxiliary_distillation(logits),
        ]
    wholes = [
        triplet_relation(positive.float(), negative.float()),
        relation_distillation(positive.float(), negative.float()),
        logit_calibration(positive[0].float(), negative[0].float()),
        auxiliary_task(logits.float(), labels),
        auxiliary_distillation(logits.float()),
    ]
    for half, whole in zip(halves, wholes, strict=True):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, whole)
