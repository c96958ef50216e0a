"""Negatives of shards: counts that add up, and every row of all shards as likely as any other."""

import pytest
import torch

from classmates.losses import shards
from classmates.losses.negatives import ClassOrder, all_negatives, enough_negatives, shared_negatives
from classmates.losses.shards import Shard, all_of_shard, drawn_from_shard, enough_of_shard
from tests.losses.conftest import unit


def split(samples: int, count: int, written: torch.Tensor | None = None) -> tuple[ClassOrder, list[Shard]]:
    classes, rows = ClassOrder(torch.arange(samples) % 4), torch.arange(samples).double()[None, :, None]
    parts = [
        Shard(
            rows[:, rank::count],
            classes.labels[rank::count],
            None if written is None else written[rank::count],
            samples,
            count,
            4,
        )
        for rank in range(count)
    ]
    return classes, parts


@pytest.mark.parametrize("masked", [False, True])
def test_counts_of_all_shards_are_those_of_the_whole_bank(masked):
    torch.manual_seed(0)
    written = torch.rand(31) < 0.5 if masked else None
    classes, parts = split(31, 4, written)
    labels = torch.tensor([0, 1, 3, 2])
    counts = sum(all_of_shard(part, labels, 5).counts for part in parts)
    assert torch.equal(counts, classes.others(labels, written))


def test_every_row_is_drawn_as_often_where_shards_are_of_unequal_size():
    torch.manual_seed(0)
    classes, parts = split(10, 4)  # 3, 3, 2 and 2 rows
    drawn, hits = 40_000, torch.zeros(10)
    counts = torch.zeros(1)
    for part in parts:
        negatives = drawn_from_shard(part, torch.tensor([1]), drawn)
        assert negatives.rows.shape[1] == drawn // 4
        may = torch.ones(drawn // 4, dtype=torch.bool) if negatives.written is None else negatives.written
        hits += torch.bincount(negatives.rows[0, may, 0].long(), minlength=10)
        counts += negatives.counts
    expected = drawn / 4 / 3
    assert (hits - expected).abs().max() < 5 * expected**0.5
    assert counts.item() == hits[classes.labels != 1].sum().item()


def test_rows_that_are_not_written_do_not_count():
    written = torch.tensor([True, False] * 6)
    _, parts = split(12, 1, written)
    negatives = drawn_from_shard(parts[0], torch.tensor([0]), 100)
    assert torch.equal(negatives.written, negatives.rows[0, :, 0] % 2 == 0)
    assert negatives.counts.item() == (negatives.written & (negatives.row_labels != 0)).sum()


def test_one_shard_draws_what_the_whole_bank_draws():
    classes, (shard,) = split(30, 1)
    labels = torch.tensor([0, 1, 2])
    for whole, sharded in ((shared_negatives, drawn_from_shard), (all_negatives, all_of_shard)):
        torch.manual_seed(0)
        expected = whole(shard.rows, classes, labels, 7)
        torch.manual_seed(0)
        found = sharded(shard, labels, 7)
        assert torch.equal(found.rows, expected.rows)
        assert torch.equal(found.counts, expected.counts)


def test_enough_is_by_the_size_of_the_whole_bank(monkeypatch):
    monkeypatch.setattr(shards, "ENOUGH_ROWS", 8)
    monkeypatch.setattr("classmates.losses.negatives.ENOUGH_ROWS", 8)
    for samples, sizes in ((8, [4, 4]), (20, [4, 4])):
        classes, parts = split(samples, 2)
        found = [enough_of_shard(part, torch.tensor([0]), 3).rows.shape[1] for part in parts]
        assert found == sizes
        whole = enough_negatives(torch.zeros(1, samples, 1), classes, torch.tensor([0]), 3)
        assert whole.rows.shape[1] == sum(sizes)


def test_many_processes_anchors_are_taken_a_few_at_a_time_with_fewer_rows():
    rows, labels = unit(2, 100, 4), torch.arange(100) % 4
    shard = Shard(rows, labels, None, 2000, 20, 4)
    negatives = all_of_shard(shard, torch.arange(60) % 4, 3)
    parts = list(negatives.parts())
    assert [(part.start, part.stop, len(own.labels), own.batches) for part, own in parts] == [
        (0, 24, 24, 8),
        (24, 48, 24, 8),
        (48, 60, 12, 4),
    ]
    assert [own.rows_per_block for _, own in parts] == [256, 256, 512]
