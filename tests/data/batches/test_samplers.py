from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Balanced, InOrder, Sampling, Shuffled, Triplets
from classmates.errors import UserError
from tests.data.batches.conftest import INNER, LABELS, WITH_REPLACEMENT, batches_of


@settings(max_examples=80)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 3))
def test_shuffled_sees_every_sample_once(count, batch_size, epoch):
    sampler = EpochSampler(Shuffled(), torch.zeros(count, dtype=torch.int64), batch_size)
    batches = batches_of(sampler, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(sampler) == len(batches)
    assert [len(batch) for batch in batches] == sampler.batch_sizes
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 2 <= len(batches[-1]) <= batch_size + 1


def test_a_lone_last_group_joins_the_batch_before():
    assert EpochSampler(Shuffled(), torch.zeros(9), 4).batch_sizes == [4, 5]
    assert EpochSampler(Shuffled(), torch.zeros(10), 4).batch_sizes == [4, 4, 2]
    assert EpochSampler(Triplets(), torch.arange(3).repeat(5), 6).batch_sizes == [6, 9]  # five triplets
    assert EpochSampler(InOrder(), torch.zeros(9), 4).batch_sizes == [4, 4, 1]


@pytest.mark.parametrize("sampling", [Shuffled(), Triplets(), WITH_REPLACEMENT])
def test_an_epoch_is_a_pure_function_of_seed_and_epoch(sampling):
    sampler = EpochSampler(sampling, LABELS, 12, seed=3)
    first, second = batches_of(sampler, 0), batches_of(sampler, 1)
    assert first != second
    assert batches_of(sampler, 0) == first
    assert batches_of(EpochSampler(sampling, LABELS, 12, seed=3), 1) == second
    assert batches_of(EpochSampler(sampling, LABELS, 12, seed=4), 0) != first
    assert len(first) == len(second) == len(sampler)


def test_in_order_ignores_the_epoch():
    sampler = EpochSampler(InOrder(), torch.zeros(5), 2)
    assert batches_of(sampler, 0) == batches_of(sampler, 9) == [[0, 1], [2, 3], [4]]


@settings(max_examples=80)
@given(
    st.sampled_from([Shuffled(), Triplets()]),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(8, 70),
    st.integers(0, 3),
)
def test_processes_share_each_batch(sampling, world_size, groups, count, epoch):
    labels = torch.arange(4).repeat(count)[: 3 * count]
    batch_size = groups * world_size * sampling.group
    assume(len(labels) // 3 // world_size >= 2)
    alone = batches_of(EpochSampler(sampling, labels, batch_size), epoch)
    ranks = [
        batches_of(EpochSampler(sampling, labels, batch_size, rank=rank, world_size=world_size), epoch)
        for rank in range(world_size)
    ]
    seen = [index for batches in ranks for batch in batches for index in batch]
    assert len(seen) == len(set(seen))
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1  # same number and sizes
    left_out = sum(map(len, alone)) - len(seen)
    assert 0 <= left_out <= (world_size - 1) * sampling.group
    for number, batch in enumerate(alone[:-2]):  # together they see the batch that one process would
        assert sorted(index for batches in ranks for index in batches[number]) == sorted(batch)
    if sampling == Triplets():
        for batch in ranks[-1]:
            anchor, positive, negative = labels[torch.tensor(batch)].view(-1, 3).unbind(1)
            assert (anchor == positive).all()
            assert (anchor != negative).all()


def test_what_is_left_out_changes_with_the_epoch():
    left_out = set()
    for epoch in range(40):
        seen = [
            batches_of(EpochSampler(Shuffled(), torch.zeros(9), 4, rank=rank, world_size=2), epoch) for rank in (0, 1)
        ]
        left_out |= set(range(9)) - {index for batches in seen for batch in batches for index in batch}
    assert left_out == set(range(9))


def test_a_data_loader_takes_a_sampler_and_lightning_finds_its_epoch():
    loader = DataLoader(torch.arange(120), batch_sampler=EpochSampler(Triplets(), LABELS, 12))
    loader.batch_sampler.sampler.set_epoch(5)
    assert [batch.tolist() for batch in loader] == batches_of(EpochSampler(Triplets(), LABELS, 12), 5)


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match=r"1 training images are too few.*need 2 or more"):
        EpochSampler(Shuffled(), torch.zeros(1), 2)
    with pytest.raises(UserError, match=r"3 training images are too few: 1 process\(es\) need 6 or more"):
        EpochSampler(Triplets(), torch.tensor([0, 0, 1]), 6)
    with pytest.raises(UserError, match="all 6 training images are of one class"):
        EpochSampler(Triplets(), torch.zeros(6, dtype=torch.int64), 6)


@pytest.mark.parametrize("sampling", [*INNER, *map(Balanced, INNER)], ids=str)
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_pass_can_begin_with_a_later_batch(sampling, world_size):
    sampler = EpochSampler(sampling, LABELS, 48, seed=3, rank=world_size - 1, world_size=world_size)
    sampler.set_epoch(1)
    whole = list(sampler)
    sampler.start_batch = 2
    assert list(sampler) == whole[2:]
    assert len(sampler) == len(whole)
    assert sum(len(batch) for batch in sampler.split(sampler.shard())) == sum(map(len, whole[2:]))


@dataclass(frozen=True)
class Episodes(Sampling):
    """A whole episode is one group: ``way`` classes with ``shot + queries`` images of each."""

    smallest = 1
    way: int = 2
    shot: int = 1
    queries: int = 3

    def __str__(self) -> str:
        return "episodes"

    @property
    def group(self) -> int:
        return self.way * (self.shot + self.queries)

    def order(self, labels: torch.Tensor, batch_size: int, random: torch.Generator) -> torch.Tensor:
        episodes = []
        for _ in range(len(labels) // self.group):
            for number in torch.randperm(int(labels.max()) + 1, generator=random)[: self.way]:
                images = (labels == number).nonzero()[:, 0]
                episodes.append(images[torch.randperm(len(images), generator=random)[: self.shot + self.queries]])
        return torch.cat(episodes)


def test_a_sampling_of_ones_own_may_have_episodes_for_groups():
    for rank in (0, 1):
        batches = batches_of(EpochSampler(Episodes(), LABELS, 16, rank=rank, world_size=2))
        assert [len(batch) for batch in batches] == [8] * 7  # of 15 episodes, in pairs
        for batch in batches:
            assert sorted(LABELS[torch.tensor(batch)].bincount().tolist())[-2:] == [4, 4]
    with pytest.raises(UserError, match="batch_size is 12; episodes need a multiple of 8, 8 or more: use 8 or 16"):
        EpochSampler(Episodes(), LABELS, 12)
