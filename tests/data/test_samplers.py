import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from classmates.data.samplers import InOrder, Shuffled, Triplets, TripletsWithReplacement
from classmates.errors import UserError

LABELS = torch.arange(6).repeat(20)  # 120 images of 6 classes


def batches_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 3))
def test_shuffled_sees_every_sample_once(count, batch_size, epoch):
    sampler = Shuffled(torch.zeros(count, dtype=torch.int64), batch_size)
    batches = batches_of(sampler, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(sampler) == len(batches)
    assert [len(batch) for batch in batches] == sampler.batch_sizes
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 2 <= len(batches[-1]) <= batch_size + 1


def test_a_lone_last_group_joins_the_batch_before():
    assert Shuffled(torch.zeros(9), 4).batch_sizes == [4, 5]
    assert Shuffled(torch.zeros(10), 4).batch_sizes == [4, 4, 2]
    assert Triplets(torch.arange(3).repeat(5), 6).batch_sizes == [6, 9]  # five triplets
    assert InOrder(torch.zeros(9), 4).batch_sizes == [4, 4, 1]


@pytest.mark.parametrize("kind", [Shuffled, Triplets, TripletsWithReplacement])
def test_an_epoch_is_a_pure_function_of_seed_and_epoch(kind):
    sampler = kind(LABELS, 12, seed=3)
    first, second = batches_of(sampler, 0), batches_of(sampler, 1)
    assert first != second
    assert batches_of(sampler, 0) == first
    assert batches_of(kind(LABELS, 12, seed=3), 1) == second
    assert batches_of(kind(LABELS, 12, seed=4), 0) != first
    assert len(first) == len(second) == len(sampler)


@pytest.mark.parametrize("kind", [Triplets, TripletsWithReplacement])
def test_batches_of_triplets_are_interleaved(kind):
    for batch in kind(LABELS, 12):
        anchor, positive, negative = LABELS[torch.tensor(batch)].view(-1, 3).unbind(1)
        assert (anchor == positive).all()
        assert (anchor != negative).all()


def test_epoch_lengths_of_the_triplet_samplers():
    assert sum(Triplets(LABELS, 12).batch_sizes) == 120
    assert sum(TripletsWithReplacement(LABELS, 12).batch_sizes) == 360


def test_in_order_ignores_the_epoch():
    sampler = InOrder(torch.zeros(5), 2)
    assert batches_of(sampler, 0) == batches_of(sampler, 9) == [[0, 1], [2, 3], [4]]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([Shuffled, Triplets]), st.integers(1, 4), st.integers(2, 5), st.integers(8, 70), st.integers(0, 3)
)
def test_processes_share_each_batch(kind, world_size, groups, count, epoch):
    labels = torch.arange(4).repeat(count)[: 3 * count]
    batch_size = groups * world_size * kind.group
    assume(len(labels) // 3 // world_size >= 2)
    alone = batches_of(kind(labels, batch_size), epoch)
    ranks = [
        batches_of(kind(labels, batch_size, rank=rank, world_size=world_size), epoch) for rank in range(world_size)
    ]
    seen = [index for batches in ranks for batch in batches for index in batch]
    assert len(seen) == len(set(seen))
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1  # same number and sizes
    left_out = sum(map(len, alone)) - len(seen)
    assert 0 <= left_out <= (world_size - 1) * kind.group
    for number, batch in enumerate(alone[:-2]):  # together they see the batch that one process would
        assert sorted(index for batches in ranks for index in batches[number]) == sorted(batch)
    if kind is Triplets:
        for batch in ranks[-1]:
            anchor, positive, negative = labels[torch.tensor(batch)].view(-1, 3).unbind(1)
            assert (anchor == positive).all()
            assert (anchor != negative).all()


def test_what_is_left_out_changes_with_the_epoch():
    left_out = set()
    for epoch in range(40):
        seen = [batches_of(Shuffled(torch.zeros(9), 4, rank=rank, world_size=2), epoch) for rank in (0, 1)]
        left_out |= set(range(9)) - {index for batches in seen for batch in batches for index in batch}
    assert left_out == set(range(9))


def test_a_data_loader_takes_a_sampler_and_lightning_finds_its_epoch():
    loader = DataLoader(torch.arange(120), batch_sampler=Triplets(LABELS, 12))
    loader.batch_sampler.sampler.set_epoch(5)
    assert [batch.tolist() for batch in loader] == batches_of(Triplets(LABELS, 12), 5)


@pytest.mark.parametrize(
    ("kind", "batch_size", "world_size", "advice"),
    [
        (Triplets, 128, 1, "batch_size is 128; Triplets needs a multiple of 3, 6 or more: use 126 or 129"),
        (Triplets, 3, 1, "use 6$"),
        (TripletsWithReplacement, 7, 1, "use 6 or 9"),
        (Triplets, 129, 2, "129, shared by 2 processes; Triplets needs a multiple of 6, 12 or more: use 126 or 132"),
        (Shuffled, 1, 1, "use 2$"),
        (Shuffled, -4, 1, "use 2$"),
        (Shuffled, 7, 2, "multiple of 2, 4 or more: use 6 or 8"),
    ],
)
def test_batch_sizes_that_cannot_be_shared_name_the_nearest(kind, batch_size, world_size, advice):
    with pytest.raises(UserError, match=advice):
        kind(LABELS, batch_size, world_size=world_size)


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match=r"1 training images are too few.*need 2 or more"):
        Shuffled(torch.zeros(1), 2)
    with pytest.raises(UserError, match=r"3 training images are too few: 1 process\(es\) need 6 or more"):
        Triplets(torch.tensor([0, 0, 1]), 6)
    with pytest.raises(UserError, match="all 6 training images are of one class"):
        Triplets(torch.zeros(6, dtype=torch.int64), 6)
