"""Episodes of training: their classes, their images, and what they are a function of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classmates.data.batches.episodes import Episodes, choose
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Balanced
from classmates.errors import UserError

WAY, SHOT, QUERIES, COUNT = 3, 2, 4, 7
EPISODES = Episodes(WAY, SHOT, QUERIES, COUNT)
LABELS = torch.arange(5).repeat_interleave(torch.tensor([6, 7, 9, 12, 6]))[
    torch.randperm(40, generator=torch.Generator().manual_seed(0))
]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(5, 12), min_size=2, max_size=9),
    data=st.data(),
    shot=st.integers(1, 3),
    queries=st.integers(1, 2),
    seed=st.integers(0, 5),
)
def test_an_episode_has_each_of_its_classes_and_each_of_its_images_once(sizes, data, shot, queries, seed):
    way = data.draw(st.integers(2, len(sizes)))
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    drawn = Episodes(way, shot, queries, 4).draw(labels, torch.Generator().manual_seed(seed))
    assert drawn.shape == (4, way, shot + queries)
    for episode in drawn:
        assert len(episode.unique()) == episode.numel()  # so that support and queries are disjoint
        classes = labels[episode]
        assert (classes == classes[:, :1]).all()
        assert len(classes[:, 0].unique()) == way


@pytest.mark.parametrize("size", [3, 4, 9])
def test_every_choice_is_as_likely_at_every_place(size):
    chosen = choose(torch.full((30_000,), size), 3, torch.Generator().manual_seed(0))
    shares = torch.stack([column.bincount(minlength=size) for column in chosen.T]) / len(chosen)
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / size), rtol=0, atol=0.012)
    together = (chosen[:, 0] * size + chosen[:, 1]).bincount(minlength=size * size) / len(chosen)
    expected = (1 - torch.eye(size).flatten()) / (size * (size - 1))
    torch.testing.assert_close(together, expected, rtol=0, atol=0.012)


def test_the_draw_is_a_function_of_seed_and_epoch():
    first, second = (EpochSampler(EPISODES, LABELS, EPISODES.group, seed=3) for _ in range(2))
    assert list(first) == list(second)
    assert len(first) == COUNT
    assert {len(batch) for batch in first} == {WAY * (SHOT + QUERIES)}
    first.set_epoch(1)
    assert list(first) != list(second)
    assert list(EpochSampler(EPISODES, LABELS, EPISODES.group, seed=4)) != list(second)


def test_processes_share_whole_episodes_and_a_pass_goes_on_where_it_was():
    group, size = EPISODES.group, 2 * EPISODES.group
    alone = (
        torch.tensor([one for batch in EpochSampler(EPISODES, LABELS, size) for one in batch])
        .view(-1, group)
        .tolist()
    )
    shares = [EpochSampler(EPISODES, LABELS, size, rank=rank, world_size=2) for rank in (0, 1)]
    of_each = [list(share) for share in shares]
    assert all(len(batch) == group for batches in of_each for batch in batches)
    assert len(of_each[0]) == len(of_each[1]) == COUNT // 2
    assert [episode for pair in zip(*of_each, strict=True) for episode in pair] == alone[: COUNT - 1]
    shares[1].start_batch = 2
    assert list(shares[1]) == of_each[1][2:]


@pytest.mark.parametrize("batch_size", [1, WAY * (SHOT + QUERIES) - 1, WAY * (SHOT + QUERIES) + 6])
def test_a_batch_is_made_of_whole_episodes(batch_size):
    with pytest.raises(
        UserError, match="episodes of 3 classes with 2 \\+ 4 images need a multiple of 18, 18 or more"
    ):
        EpochSampler(EPISODES, LABELS, batch_size)


@pytest.mark.parametrize("name", ["way", "shot", "queries", "episodes"])
def test_numbers_too_small_are_refused_by_name(name):
    numbers = {"way": 2, "shot": 1, "queries": 1, "episodes": 1}
    Episodes(**numbers)
    with pytest.raises(UserError, match=f"{name}={numbers[name] - 1}"):
        Episodes(**{**numbers, name: numbers[name] - 1})


def test_data_of_which_no_episode_can_be_made_name_what_is_missing():
    names = ("ant", "bee", "cat", "dog", "eel")
    with pytest.raises(UserError, match="the photos have 5 classes, and an episode way=6"):
        Episodes(6, 1, 1, 1).check(LABELS, names, "the photos")
    with pytest.raises(UserError, match=r"too few of classes 'ant \(6\)', 'eel \(6\)': .* queries=5 .* 7 in all"):
        Episodes(5, 2, 5, 1).check(LABELS, names, "the photos")
    with pytest.raises(UserError, match=r"too few of class '5 \(0\)'"):
        Episodes(2, 1, 1, 1).draw(torch.tensor([0, 0, 6, 6, 1, 1, 2, 2, 3, 3, 4, 4]), torch.Generator())


def test_episodes_are_balanced_already():
    with pytest.raises(UserError, match="show every class equally often already"):
        Balanced(EPISODES)
