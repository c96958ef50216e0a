import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import (
    Balanced,
    ClassPairs,
    ClassUniform,
    InOrder,
    Overlapping,
    Shuffled,
    Triplets,
    common_sampling,
)
from classmates.errors import UserError
from tests.data.batches.conftest import INNER, LABELS, WITH_REPLACEMENT, batches_of


@pytest.mark.parametrize("sampling", [Triplets(), WITH_REPLACEMENT])
def test_batches_of_triplets_are_interleaved(sampling):
    for batch in EpochSampler(sampling, LABELS, 12):
        anchor, positive, negative = LABELS[torch.tensor(batch)].view(-1, 3).unbind(1)
        assert (anchor == positive).all()
        assert (anchor != negative).all()


def test_epoch_lengths_of_the_triplet_samplers():
    assert sum(EpochSampler(Triplets(), LABELS, 12).batch_sizes) == 120
    assert sum(EpochSampler(WITH_REPLACEMENT, LABELS, 12).batch_sizes) == 360


@pytest.mark.parametrize(
    ("sampling", "batch_size", "world_size", "advice"),
    [
        (Triplets(), 128, 1, "batch_size is 128; triplets of images need a multiple of 3, 6 or more: use 126 or 129"),
        (Triplets(), 3, 1, "use 6$"),
        (WITH_REPLACEMENT, 7, 1, "use 6 or 9"),
        (
            Triplets(),
            129,
            2,
            "129, shared by 2 processes; triplets of images need a multiple of 6, 12 or more: use 126 or 132",
        ),
        (Shuffled(), 1, 1, "use 2$"),
        (Shuffled(), -4, 1, "use 2$"),
        (Shuffled(), 7, 2, "multiple of 2, 4 or more: use 6 or 8"),
    ],
)
def test_batch_sizes_that_cannot_be_shared_name_the_nearest(sampling, batch_size, world_size, advice):
    with pytest.raises(UserError, match=advice):
        EpochSampler(sampling, LABELS, batch_size, world_size=world_size)


@settings(max_examples=80)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=60), st.integers(2, 9), st.integers(0, 3))
def test_class_pairs_are_of_one_class_and_every_image_is_an_anchor_once(labels, pairs, epoch):
    labels = torch.tensor(labels)
    assume(labels.bincount().max() >= 2)
    batches = batches_of(EpochSampler(ClassPairs(), labels, 2 * pairs), epoch)
    anchors, partners = torch.tensor([index for batch in batches for index in batch]).view(-1, 2).unbind(1)
    assert sorted(anchors.tolist()) == list(range(len(labels)))
    assert (labels[anchors] == labels[partners]).all()
    assert all(len(batch) == 2 * pairs for batch in batches[:-1])
    assert all(len(batch) >= 4 for batch in batches)


def test_partners_are_drawn_evenly_from_the_class_the_anchor_included():
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2, 1])
    sampler = EpochSampler(ClassPairs(), labels, 4)
    seen = torch.zeros(8, 8)
    for epoch in range(1200):
        anchors, partners = sampler.order(epoch).view(-1, 2).unbind(1)
        seen[anchors, partners] += 1 / 1200
    same = (labels[:, None] == labels).float()
    torch.testing.assert_close(seen, same / same.sum(1), atol=0.06, rtol=0)


def test_class_pairs_repeat_with_seed_and_epoch_and_are_shared_by_processes():
    labels = torch.arange(3).repeat(8)
    assert batches_of(EpochSampler(ClassPairs(), labels, 8), 1) == batches_of(
        EpochSampler(ClassPairs(), labels, 8), 1
    )
    assert batches_of(EpochSampler(ClassPairs(), labels, 8), 1) != batches_of(
        EpochSampler(ClassPairs(), labels, 8), 2
    )
    assert batches_of(EpochSampler(ClassPairs(), labels, 8, seed=1), 1) != batches_of(
        EpochSampler(ClassPairs(), labels, 8), 1
    )
    alone = batches_of(EpochSampler(ClassPairs(), labels, 8))
    first, second = (batches_of(EpochSampler(ClassPairs(), labels, 8, rank=rank, world_size=2)) for rank in (0, 1))
    for whole, *halves in zip(alone, first, second, strict=True):
        pairs = [pair for half in halves for pair in zip(half[::2], half[1::2], strict=True)]
        assert sorted(pairs) == sorted(zip(whole[::2], whole[1::2], strict=True))


def test_class_pairs_need_a_class_with_two_images():
    with pytest.raises(UserError, match="none of the 4 classes has two training images"):
        EpochSampler(ClassPairs(), torch.arange(4), 4)
    with pytest.raises(
        UserError, match="batch_size is 7; pairs of images of a class need a multiple of 2, 4 or more: use 6 or 8"
    ):
        EpochSampler(ClassPairs(), LABELS, 7)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=7), st.integers(0, 3))
def test_class_uniform_groups_are_exact(counts, epoch):
    assume(sum(-(-count // 8) for count in counts) >= 2)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))]
    groups = EpochSampler(ClassUniform(), labels, 16, seed=1).order(epoch).view(-1, 8)
    classes = labels[groups]
    assert (classes == classes[:, :1]).all()
    assert set(groups.flatten().tolist()) == set(range(len(labels)))  # nobody is left out
    seen = groups.flatten().bincount(minlength=len(labels))
    for number, count in enumerate(counts):
        of_class = seen[labels == number]
        assert (classes[:, 0] == number).sum() == -(-count // 8)
        assert count == 0 or of_class.max() - of_class.min() <= 1  # nor comes again more often than others
        assert count % 8 or (of_class == 1).all()
    # A class is spread evenly over the rounds, each of which has one group of the largest class.
    sizes = [-(-count // 8) for count in counts]
    largest = classes[:, 0] == sizes.index(max(sizes))
    for number, size in enumerate(sizes):
        so_far = (classes[:, 0] == number).cumsum(0)[largest]  # at a place within each round
        expected = size * torch.arange(1, max(sizes) + 1) / max(sizes)
        assert ((so_far - expected).abs() < 2).all()


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 3))
def test_class_uniform_batches_of_equal_classes_have_none_more_often_than_others(classes, groups, epoch):
    labels = torch.arange(classes).repeat(8 * groups)
    for per_batch in range(2, 2 * classes):
        for batch in batches_of(EpochSampler(ClassUniform(), labels, 8 * per_batch), epoch)[:-1]:
            counts = labels[torch.tensor(batch)].bincount(minlength=classes) // 8
            assert counts.min() >= per_batch // classes
            assert counts.max() <= -(-per_batch // classes)


@pytest.mark.parametrize(("batch_size", "share"), [(64, 0.9), (128, 0.95), (136, 0.8)])
def test_class_uniform_batches_relate_most_pairs_of_classes_within_an_epoch(batch_size, share):
    labels = torch.arange(50).repeat(240)
    met = torch.eye(50)
    for batch in batches_of(EpochSampler(ClassUniform(), labels, batch_size)):
        present = labels[torch.tensor(batch)].unique()
        met[present[:, None], present] = 1
    assert met.mean() > share


def test_class_uniform_keeps_its_length_in_every_epoch():
    labels = torch.arange(5).repeat_interleave(torch.tensor([3, 0, 50, 17, 8]))
    sampler = EpochSampler(ClassUniform(), labels, 16)
    assert {len(sampler.order(epoch)) for epoch in range(20)} == {sampler.positions} == {8 * (1 + 7 + 3 + 1)}


def test_class_uniform_is_a_pure_function_of_seed_and_epoch_and_is_shared_by_groups():
    sampler = EpochSampler(ClassUniform(), LABELS, 32, seed=3)
    first, second = batches_of(sampler, 0), batches_of(sampler, 1)
    assert first == batches_of(EpochSampler(ClassUniform(), LABELS, 32, seed=3), 0) != second
    assert first != batches_of(EpochSampler(ClassUniform(), LABELS, 32, seed=4), 0)
    ranks = [
        batches_of(EpochSampler(ClassUniform(), LABELS, 32, seed=3, rank=rank, world_size=2), 0) for rank in (0, 1)
    ]
    for batch, *shares in zip(first[:-1], *(rank[:-1] for rank in ranks), strict=False):
        assert sorted(shares[0] + shares[1]) == sorted(batch)
        assert all(len(LABELS[torch.tensor(share)].unique()) == 2 for share in shares)
    with pytest.raises(
        UserError, match="groups of 8 images of a class need a multiple of 8, 16 or more: use 96 or 104"
    ):
        EpochSampler(ClassUniform(), LABELS, 100)


UNEQUAL = st.lists(st.integers(0, 40), min_size=2, max_size=7).filter(lambda sizes: sum(map(bool, sizes)) >= 2)


def labels_of(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def groups_mean_what_they_say(sampling, labels):
    if isinstance(sampling, Triplets):
        anchor, positive, negative = labels.view(-1, 3).unbind(1)
        return bool((anchor == positive).all() and (anchor != negative).all())
    if sampling == Overlapping():
        return True  # it is not their classes that belong together
    return bool((labels.view(-1, sampling.group) == labels.view(-1, sampling.group)[:, :1]).all())


@settings(max_examples=80)
@given(UNEQUAL, st.integers(0, 5))
def test_balanced_classes_are_level_and_their_images_come_in_turn(sizes, epoch):
    labels = labels_of(sizes)
    order = EpochSampler(Balanced(InOrder()), labels, 4).order(epoch)
    assert len(order) == len(labels)
    counts, classes = labels[order].bincount(minlength=len(sizes)), sum(map(bool, sizes))
    for number, size in enumerate(sizes):
        seen = order[labels[order] == number].bincount(minlength=len(labels))[labels == number]
        assert int(counts[number]) in ((len(labels) // classes, len(labels) // classes + 1) if size else (0,))
        assert not size or seen.max() - seen.min() <= 1


@settings(max_examples=100)
@given(st.sampled_from(INNER), UNEQUAL, st.integers(1, 2), st.integers(2, 4))
def test_balanced_groups_keep_their_meaning_and_are_shared(inner, sizes, world_size, groups):
    labels, batch_size = labels_of(sizes), groups * world_size * inner.group
    assume(len(labels) // 8 // world_size >= 4)
    alone = EpochSampler(Balanced(inner), labels, batch_size)
    ranks = [
        EpochSampler(Balanced(inner), labels, batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for epoch in range(4):
        order = alone.order(epoch)
        assert len(order) == alone.positions
        assert groups_mean_what_they_say(inner, labels[order])
        assert batches_of(alone, epoch) == batches_of(alone, epoch)
        shares = [batches_of(rank, epoch) for rank in ranks]
        assert len({tuple(map(len, batches)) for batches in shares}) == 1
        for number, batch in enumerate(batches_of(alone, epoch)[:-2]):
            assert sorted(index for batches in shares for index in batches[number]) == sorted(batch)
            assert all(groups_mean_what_they_say(inner, labels[torch.tensor(share[number])]) for share in shares)


def test_balanced_classes_are_level_within_what_the_inner_sampling_makes_of_them():
    labels = labels_of([90, 6, 0, 24])
    expected = {0: (40, 40, 0, 40), 1: (80, 80, 0, 80), 2: (40, 40, 0, 40)}
    for place, inner in enumerate([Shuffled(), ClassPairs(), ClassUniform()]):
        order = EpochSampler(Balanced(inner), labels, 48).order(3)
        assert tuple(labels[order].bincount().tolist()) == expected[place]
    seen = torch.cat([EpochSampler(Balanced(Shuffled()), labels, 48).order(epoch) for epoch in range(12)])
    assert len(seen.unique()) == len(labels)  # over some epochs, all of the large class too
    extra = [labels_of([5, 4, 4])[EpochSampler(Balanced(Shuffled()), labels_of([5, 4, 4]), 4).order(epoch)].bincount()
             for epoch in range(30)]  # fmt: skip
    assert {int(counts.argmax()) for counts in extra} == {0, 1, 2}


def test_balanced_is_a_value_and_names_its_images():
    assert Balanced(Triplets()) == Balanced(Triplets()) != Balanced(WITH_REPLACEMENT)
    assert (Balanced(ClassUniform()).group, Balanced(InOrder()).smallest) == (8, 1)
    with pytest.raises(
        UserError, match="triplets of images, balanced by class, need a multiple of 3, 6 or more: use 6 or 9"
    ):
        EpochSampler(Balanced(Triplets()), LABELS, 7)


def test_samplings_are_values():
    assert Triplets() == Triplets(disjoint=True) != WITH_REPLACEMENT
    assert len({Shuffled(), Shuffled(), ClassUniform(), ClassUniform(size=4)}) == 3
    assert ClassUniform(size=4).group == 4


def test_what_takes_any_images_takes_those_that_another_needs():
    assert common_sampling({}) == common_sampling({"SD": Shuffled(), "MCL": Shuffled()}) == Shuffled()
    assert common_sampling({"SD": Shuffled(), "CORSD": Triplets(), "other": Triplets()}) == Triplets()
    with pytest.raises(
        UserError, match=r"A \(triplets of images\) and B \(pairs of images of a class\) need different batches"
    ):
        common_sampling({"A": Triplets(), "SD": Shuffled(), "B": ClassPairs()})
