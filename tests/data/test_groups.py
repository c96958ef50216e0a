"""Images of one group are in one part of what is split off."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from classmates.data.groups import connected, grouped_split
from classmates.data.splits import stratified_split
from classmates.errors import UserError

class_sizes = st.lists(st.integers(2, 30), min_size=2, max_size=8)


def labels_of(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@given(class_sizes, st.floats(0.05, 0.95), st.integers(0, 5), st.integers(1, 40))
def test_a_grouped_split_divides_no_class_and_only_groups_that_are_alone_of_theirs(sizes, fraction, seed, groups):
    labels = labels_of(sizes)
    of_each = torch.randint(groups, (len(labels),), generator=torch.Generator().manual_seed(seed))
    try:
        plain = stratified_split(labels, fraction, seed)
    except UserError:
        with pytest.raises(UserError):
            grouped_split(labels, of_each, fraction, seed)
        return
    kept, off = grouped_split(labels, of_each, fraction, seed)
    assert torch.equal(torch.cat([kept, off]).sort().values, torch.arange(len(labels)))
    assert torch.equal(labels[kept].unique(), labels[off].unique())
    members = {group: labels[of_each == group].tolist() for group in of_each.tolist()}
    having = {kind: sum(kind in kinds for kinds in members.values()) for kind in range(len(sizes))}
    divided = set(of_each[kept].tolist()) & set(of_each[off].tolist())
    alone = {group for group, kinds in members.items() if any(having[kind] == 1 for kind in kinds)}
    assert divided <= alone or torch.equal(off, plain[1])


@given(class_sizes, st.integers(0, 5))
def test_without_groups_of_several_a_split_is_the_plain_one(sizes, seed):
    labels = labels_of(sizes)
    groups = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    count = len(labels) // 2
    assume(len(sizes) <= count <= len(labels) - len(sizes))
    kept, off = grouped_split(labels, groups, count, seed)
    plain = stratified_split(labels, count, seed)
    assert torch.equal(kept, plain[0])
    assert torch.equal(off, plain[1])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_connected_groups_are_those_that_a_chain_leads_through(pairs):
    first, second = torch.tensor(pairs).T
    together = [{number} for number in range(len(pairs))]
    for one, other in itertools.combinations(range(len(pairs)), 2):
        if (first[one] == first[other] or second[one] == second[other]) and together[one] is not together[other]:
            joined = together[one] | together[other]
            for number in joined:
                together[number] = joined
    found = connected(first, second).tolist()
    for one, other in itertools.combinations(range(len(pairs)), 2):
        assert (found[one] == found[other]) == (other in together[one])


def test_of_few_groups_one_of_each_class_is_split_off():
    labels = torch.arange(3).repeat_interleave(40)
    groups = torch.arange(30).repeat_interleave(4)
    kept, off = grouped_split(labels, groups, 0.03, 0)  # less than a group of each
    assert labels[off].bincount().tolist() == [4, 4, 4]
    assert not set(groups[kept].tolist()) & set(groups[off].tolist())


def test_a_group_is_drawn_as_one():
    labels = torch.tensor([0] * 12 + [1] * 12)
    groups = torch.tensor([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, *range(10, 22)])
    sizes = set()
    for seed in range(40):
        _, off = grouped_split(labels, groups, 0.5, seed)
        assert len(groups[off].unique()) == 11
        assert (0 in off) == (1 in off) == (2 in off)
        sizes.add(len(off))
    assert sizes == {11, 13}


@pytest.mark.parametrize("first", [0, 1])
def test_a_group_counts_for_its_rarest_class(first):
    """In whatever order its samples come: every patient has both classes, or one class is in few of them."""
    labels = torch.tensor([0, 1]).repeat(50)
    labels[:2] = torch.tensor([first, 1 - first])
    groups = torch.arange(50).repeat_interleave(2)
    kept, off = grouped_split(labels, groups, 0.2, 0)
    assert not set(groups[kept].tolist()) & set(groups[off].tolist())
    assert len(off) == 20
    labels = torch.zeros(400, dtype=torch.int64)
    labels[1:24:4] = 1  # in 6 of 200 patients, never the first of their two images
    groups = torch.arange(200).repeat_interleave(2)
    for seed in range(20):
        kept, off = grouped_split(labels, groups, 0.2, seed)
        assert not set(groups[kept].tolist()) & set(groups[off].tolist())


def test_only_the_group_that_is_alone_of_its_class_is_divided():
    labels = torch.tensor([0] * 60 + [1] * 60 + [2] * 4)
    groups = torch.cat([torch.arange(120) // 3, torch.full((4,), 99)])
    for seed in range(10):
        kept, off = grouped_split(labels, groups, 0.2, seed)
        assert set(groups[kept].tolist()) & set(groups[off].tolist()) == {99}


def test_a_group_whose_class_others_have_as_well_is_not_divided():
    """Twenty patients with a lesion have images without it too, and one patient has such images only."""
    labels = torch.tensor([0, 0, 1, 1] * 20 + [0] * 10)
    groups = torch.cat([torch.arange(20).repeat_interleave(4), torch.full((10,), 20)])
    for seed in range(10):
        kept, off = grouped_split(labels, groups, 0.2, seed)
        assert not set(groups[kept].tolist()) & set(groups[off].tolist())


def test_groups_are_drawn_anew_where_both_that_have_a_class_are_on_one_side():
    labels = torch.tensor([0, 0, 0, 1, 1, 1] + [2, 3] * 40)  # classes 0 and 1 in groups 0 and 1, 1 and 2
    groups = torch.cat([torch.tensor([0, 0, 1, 1, 2, 2]), 3 + torch.arange(80) // 4])
    for seed in range(20):
        kept, off = grouped_split(labels, groups, 0.2, seed)
        assert not set(groups[kept].tolist()) & set(groups[off].tolist())
        assert labels[kept].unique().tolist() == labels[off].unique().tolist() == [0, 1, 2, 3]


def test_a_size_that_the_images_do_not_allow_is_refused_with_groups_too():
    labels = torch.arange(6).repeat_interleave(4)
    groups = torch.tensor([0, *range(23)])
    for size in (0.01, 0.99):
        with pytest.raises(UserError, match="choose from 6 to 18 images"):
            grouped_split(labels, groups, size, 0)


@pytest.mark.parametrize("strays", range(4))
@pytest.mark.parametrize("kinds", [(0,), (0, 1)])
def test_samples_of_no_group_do_not_divide_the_others(strays, kinds):
    """Where every group has both classes, the few of none are of a class that has no group of its own."""
    groups = torch.cat([torch.arange(50).repeat_interleave(4), 50 + torch.arange(strays)])
    labels = torch.cat([torch.tensor([0, 0, 1, 1]).repeat(50), torch.tensor(kinds).repeat(4)[:strays]])
    for seed in range(5):
        kept, off = grouped_split(labels, groups, 0.2, seed)
        assert not set(groups[kept].tolist()) & set(groups[off].tolist())
        assert labels[kept].unique().tolist() == labels[off].unique().tolist() == [0, 1]
        assert len(groups[off].unique()) == round(0.2 * (50 + strays))
