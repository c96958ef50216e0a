import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classmates.data.batches.randomness import generator
from classmates.data.batches.triplets import disjoint_triplets, triplets_with_replacement
from classmates.errors import UserError

unbalanced = st.lists(st.integers(0, 40), min_size=2, max_size=8)
tiny = st.lists(st.integers(0, 3), min_size=2, max_size=8)
dominated = st.lists(st.integers(0, 5), min_size=1, max_size=6).flatmap(
    lambda small: st.integers(3, 90).map(lambda large: [*small, large])
)


def labels_of(sizes):
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def assert_triplets(labels, triplets):
    anchor, positive, negative = labels[triplets].unbind(1)
    assert (anchor == positive).all()
    assert (anchor != negative).all()


@settings(max_examples=200)
@given(st.one_of(unbalanced, tiny, dominated), st.integers(0, 2**31))
def test_disjoint_triplets_hold_for_any_class_sizes(sizes, seed):
    assume(max(sizes) >= 2 and sum(size > 0 for size in sizes) >= 2)  # else no triplet is possible
    labels = labels_of(sizes)
    counts = set()
    for epoch in range(4):
        triplets = disjoint_triplets(labels, generator("order", seed, epoch))
        assert triplets.unique().numel() == triplets.numel()
        assert_triplets(labels, triplets)
        counts.add(len(triplets))
    assert len(counts) == 1  # the length of an epoch does not change
    assert 1 <= counts.pop() <= len(labels) // 3


@settings(max_examples=60)
@given(st.integers(2, 12), st.integers(2, 40), st.integers(0, 2**31))
def test_balanced_classes_leave_at_most_two_images_out(classes, size, seed):
    labels = labels_of([size] * classes)
    assert len(disjoint_triplets(labels, generator("order", seed))) == classes * size // 3


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([2, 1], 1),
        ([1, 2], 1),
        ([2, 2], 1),
        ([3, 3], 2),
        ([100, 1], 1),
        ([100, 2], 2),
        ([100, 3], 2),
        ([1, 1, 1, 2], 1),
    ],
)
def test_small_and_extreme_cases(sizes, expected):
    labels = labels_of(sizes)
    for epoch in range(20):
        triplets = disjoint_triplets(labels, generator("order", 0, epoch))
        assert len(triplets) == expected
        assert_triplets(labels, triplets)


def test_cifar_sized_classes_give_the_papers_number_of_triplets():
    labels = labels_of([500] * 100)
    triplets = disjoint_triplets(labels, generator("order", 0))
    assert len(triplets) == 50_000 // 3  # two images are idle
    per_class = labels[triplets[:, 0]].bincount()
    assert per_class.min() == 166
    assert per_class.max() == 167


def test_roles_and_idle_images_change_with_the_epoch():
    labels = labels_of([20] * 5)
    used = torch.zeros(3, 100)
    for epoch in range(300):
        triplets = disjoint_triplets(labels, generator("order", 0, epoch))
        used[torch.arange(3).expand_as(triplets), triplets] += 1
    assert (used - 300 * 33 / 100).abs().max() < 45  # five standard deviations: 99 times in each role


def test_negatives_come_from_every_other_class():
    labels = labels_of([30] * 4)
    met = torch.zeros(4, 4)
    for epoch in range(100):
        triplets = disjoint_triplets(labels, generator("order", 0, epoch))
        met.index_put_((labels[triplets[:, 0]], labels[triplets[:, 2]]), torch.ones(len(triplets)), accumulate=True)
    assert (met.diagonal() == 0).all()
    others = met[~torch.eye(4, dtype=torch.bool)]
    assert others.min() > 0.8 * others.mean()
    assert others.max() < 1.2 * others.mean()


@settings(max_examples=150)
@given(st.one_of(unbalanced, tiny), st.integers(0, 2**31))
def test_with_replacement_every_image_is_an_anchor_once(sizes, seed):
    assume(max(sizes) >= 2 and sum(size > 0 for size in sizes) >= 2)
    labels = labels_of(sizes)[torch.randperm(sum(sizes), generator=generator("mix", seed))]
    triplets = triplets_with_replacement(labels, generator("order", seed))
    assert torch.equal(triplets[:, 0].sort().values, torch.arange(len(labels)))
    assert_triplets(labels, triplets)


def test_with_replacement_draws_evenly_and_may_draw_the_anchor():
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    met = torch.zeros(2, 6, 6)
    for epoch in range(1000):
        triplets = triplets_with_replacement(labels, generator("order", 0, epoch))
        met[0, triplets[:, 0], triplets[:, 1]] += 1
        met[1, triplets[:, 0], triplets[:, 2]] += 1
    same = labels[:, None] == labels
    expected = torch.stack([same / same.sum(1, keepdim=True), ~same / (~same).sum(1, keepdim=True)]) * 1000
    assert (met - expected).abs().max() < 80  # five standard deviations


@pytest.mark.parametrize("triplets", [disjoint_triplets, triplets_with_replacement])
def test_labels_without_a_triplet_are_refused(triplets):
    with pytest.raises(UserError, match="all 5 training images are of one class"):
        triplets(torch.zeros(5, dtype=torch.int64), generator("order", 0))
    with pytest.raises(UserError, match="no class has two training images"):
        triplets(torch.arange(5), generator("order", 0))
