import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from classmates.data.splits import held_out, stratified_split, stratified_subset
from classmates.errors import UserError

class_sizes = st.lists(st.integers(2, 30), min_size=2, max_size=8)


def labels_of(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@given(class_sizes, st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_is_exact_and_stratified(sizes, fraction, seed):
    labels = labels_of(sizes)
    count = round(fraction * len(labels))
    assume(len(sizes) <= count <= len(labels) - len(sizes))
    kept, off = stratified_split(labels, fraction, seed)
    assert len(off) == count
    assert torch.equal(torch.cat([kept, off]).sort().values, torch.arange(len(labels)))
    assert torch.equal(off, off.sort().values)
    shares = labels[off].bincount(minlength=len(sizes))
    assert (shares >= 1).all()
    assert (labels[kept].bincount(minlength=len(sizes)) >= 1).all()
    quotas = torch.tensor(sizes) * count / len(labels)
    if ((quotas >= 1) & (quotas <= torch.tensor(sizes) - 1)).all():  # nothing held at its limit: largest remainder
        assert ((shares - quotas).abs() < 1).all()


def test_the_rounding_goes_to_the_largest_remainders():
    labels = labels_of([17, 16, 7])  # quotas of 10 in 40: 4.25, 4.0, 1.75
    _, off = stratified_split(labels, 10, seed=0)
    assert labels[off].bincount().tolist() == [4, 4, 2]
    _, off = stratified_split(labels, 0.25, seed=0)
    assert len(off) == 10


def test_a_rare_class_keeps_one_on_each_side():
    labels = labels_of([2, 100])
    kept, off = stratified_split(labels, 5, seed=0)
    assert labels[off].bincount().tolist() == [1, 4]
    assert labels[kept].bincount().tolist() == [1, 96]
    _, off = stratified_split(labels, 99, seed=0)
    assert labels[off].bincount().tolist() == [1, 98]


def test_the_seed_alone_decides():
    labels = labels_of([20, 20])
    first, again, other = (stratified_split(labels, 10, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_every_sample_has_the_same_chance():
    labels = labels_of([6, 12])
    times = torch.zeros(18)
    for seed in range(600):
        times[stratified_split(labels, 1 / 3, seed)[1]] += 1
    assert times.sum() == 600 * 6
    assert (times - 200).abs().max() < 60  # five standard deviations


def test_errors_name_the_class_and_the_fix():
    labels = labels_of([1, 20])
    with pytest.raises(UserError, match="class 'yak' has one image, the test set cannot be split off"):
        stratified_split(labels, 0.2, 0, part="the test set", class_names=("yak", "gnu"))
    with pytest.raises(UserError, match=r"cannot be split off: each class needs 3, one for each of training, "):
        stratified_split(labels, 0.2, 0, part="the test set", fix="add images until there are 5 a class on average")
    labels = labels_of([2, 3, 20])
    with pytest.raises(
        UserError, match=r"a part of 2 of 25 images leaves class 0 .* from 3 to 22 images, a fraction of 0.12 to 0.88"
    ):
        stratified_split(labels, 0.1, 0)
    with pytest.raises(UserError, match="from 3 to 22"):
        stratified_split(labels, 23, 0)
    with pytest.raises(UserError, match=r"a part of 2 of 25 .* on one side: add images$"):
        stratified_split(labels, 2, 0, fix="add images")


@given(class_sizes, st.data())
def test_a_subset_is_exact_and_stratified(sizes, data):
    labels = labels_of(sizes)
    count = data.draw(st.integers(len(sizes), len(labels)))
    subset = stratified_subset(labels, count, seed=0)
    assert len(subset.unique()) == len(subset) == count
    shares = labels[subset].bincount(minlength=len(sizes))
    assert (shares >= 1).all()
    assert (shares <= torch.tensor(sizes)).all()


def test_a_subset_out_of_range_is_refused():
    labels = labels_of([5, 5])
    for count in (1, 11):
        with pytest.raises(UserError, match=f"train_size is {count}.*from 2 to 10"):
            stratified_subset(labels, count, 0)


@pytest.mark.parametrize(
    ("sizes", "fraction", "size"),
    [
        ([8, 8, 8], 0.1, 3),
        ([10, 10, 10], 0.1, 0.1),
        ([3, 3, 3], 0.1, 0.1),
        ([4, 4, 4], 0.1, 3),
        ([8, 8, 8], 0.05, 0.05),
        ([4] * 10, 0.2, 10),
        ([3] * 10, 0.2, 0.2),
        ([10] * 10, 0.2, 0.2),
    ],
)
def test_one_of_each_class_is_held_out_where_the_usual_tenth_is_fewer(sizes, fraction, size):
    """But where that would be more than a quarter of all, or somebody has said another fraction."""
    assert held_out(fraction, labels_of(sizes)) == size
