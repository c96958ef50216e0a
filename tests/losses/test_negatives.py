"""Negatives are drawn uniformly, and never from the anchor's own class."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from classmates.errors import UserError
from classmates.losses import negatives as negatives_module
from classmates.losses.negatives import (
    ClassOrder,
    all_negatives,
    enough_negatives,
    independent_negatives,
    shared_negatives,
)

# class numbers with gaps, classes of one sample, in any order, at least two of them
any_labels = st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(lambda labels: len(set(labels)) > 1)


@given(labels=any_labels, k=st.integers(1, 40))
def test_independent_draws_leave_out_the_class_of_the_anchor(labels: list[int], k: int):
    classes = ClassOrder(torch.tensor(labels))
    drawn = classes.draw(classes.labels, k)
    assert drawn.shape == (len(labels), k)
    assert (classes.labels[drawn] != classes.labels[:, None]).all()


@given(labels=any_labels, k=st.integers(1, 40), some=st.none() | st.integers(0, 2**60))
def test_common_rows_leave_out_the_class_of_the_anchor_and_nothing_else(labels: list[int], k: int, some: int | None):
    written = None if some is None else torch.tensor([bool(some >> row & 1) for row in range(len(labels))])
    allowed = torch.ones(len(labels), dtype=torch.bool) if written is None else written
    classes = ClassOrder(torch.tensor(labels))
    rows = torch.arange(len(labels), dtype=torch.float32)[None, :, None].expand(2, -1, -1)  # each row is its index
    for draw in (shared_negatives, all_negatives):
        negatives = draw(rows, classes, classes.labels, k, written=written)
        assert negatives.num_negatives == k
        for block in negatives.blocks():
            met = block.rows[1, 0, :, 0].long()
            assert torch.equal(block.mask == 0, (classes.labels[met] != classes.labels[:, None]) & allowed[met])
            assert (block.mask[block.mask != 0] == -torch.inf).all()
        counted = sum((block.mask == 0).sum(1) for block in negatives.blocks())
        assert torch.equal(negatives.counts, counted)
    seen = torch.cat([block.rows[0, 0, :, 0] for block in all_negatives(rows, classes, classes.labels, k).blocks()])
    assert torch.equal(seen, rows[0, :, 0])


def test_independent_draws_are_uniform_over_all_other_classes():
    torch.manual_seed(0)
    labels = torch.tensor([2, 0, 2, 4, 2, 0, 4, 2, 0, 0, 2, 1])
    classes = ClassOrder(labels)
    for label in labels.unique():
        drawn = classes.draw(label[None].expand(100), 1000).flatten()
        counts = torch.bincount(drawn, minlength=len(labels))
        other = labels != label
        assert counts[~other].sum() == 0
        p = 1 / other.sum()
        assert (counts[other] / len(drawn) - p).abs().max() < 5 * (p * (1 - p) / len(drawn)).sqrt()


def test_anchors_draw_for_themselves_and_share_their_rows_between_peers():
    torch.manual_seed(0)
    classes = ClassOrder(torch.arange(5000) % 10)
    rows = torch.randn(3, 5000, 2)
    negatives = independent_negatives(rows, classes, classes.labels[:8], 1000)
    blocks = list(negatives.blocks())
    assert len(blocks) == 4  # 256 columns of 8 samples at a time
    together = torch.cat([block.rows for block in blocks], dim=2)
    assert together.shape == (3, 8, 1000, 2)
    assert torch.equal(together, rows[:, negatives.indices])
    assert not any(block.mask.any() for block in blocks)
    assert torch.equal(negatives.counts, torch.full((8,), 1000))
    assert not torch.equal(negatives.indices[0], negatives.indices[1])


def test_shared_draws_are_uniform_over_all_rows():
    torch.manual_seed(0)
    classes = ClassOrder(torch.arange(20) % 4)
    rows = torch.arange(20.0)[None, :, None].expand(2, -1, -1)
    drawn = shared_negatives(rows, classes, classes.labels[:1], 100_000).rows[0, :, 0].long()
    counts = torch.bincount(drawn, minlength=20)
    assert (counts / 100_000 - 0.05).abs().max() < 5 * (0.05 * 0.95 / 100_000) ** 0.5


def test_more_rows_than_k_can_stand_for_k():
    classes = ClassOrder(torch.arange(20) % 4)
    negatives = shared_negatives(torch.zeros(2, 20, 3), classes, classes.labels[:2], 5, drawn=400)
    assert negatives.num_negatives == 5
    assert negatives.rows.shape == (2, 400, 3)
    assert (300 - negatives.counts).abs().max() < 5 * (400 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(("samples", "k", "taken"), [(8, 3, 8), (9, 3, 8), (9, 9, 9), (12, 11, 11)])
def test_small_banks_are_taken_whole_and_large_ones_in_part(monkeypatch, samples, k, taken):
    monkeypatch.setattr(negatives_module, "ENOUGH_ROWS", 8)
    classes = ClassOrder(torch.arange(samples) % 4)
    rows = torch.arange(float(samples))[None, :, None].expand(2, -1, -1)
    negatives = enough_negatives(rows, classes, classes.labels[:2], k)
    assert negatives.num_negatives == k
    assert negatives.rows.shape[1] == taken
    assert torch.equal(negatives.rows, rows) == (samples == taken)


def test_pool_is_what_the_most_common_class_has_to_draw_from():
    assert ClassOrder(torch.tensor([0, 3, 3, 1, 3, 0])).pool == 3


def test_class_order_is_no_part_of_a_checkpoint():
    assert ClassOrder(torch.tensor([0, 1])).state_dict() == {}


def test_one_class_has_no_negatives():
    with pytest.raises(UserError, match="all 3 training samples are of class 5"):
        ClassOrder(torch.tensor([5, 5, 5]))


@pytest.mark.parametrize("draw", [independent_negatives, shared_negatives, all_negatives, enough_negatives])
def test_wrong_arguments_are_named(draw):
    classes = ClassOrder(torch.tensor([0, 1, 0, 1]))
    rows: Tensor = torch.zeros(2, 4, 3)
    with pytest.raises(UserError, match="number of negatives K is 0; an anchor needs at least 1"):
        draw(rows, classes, classes.labels, 0)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3\) do not fit 4 labels"):
        draw(rows[:, :3], classes, classes.labels, 1)
