"""Batches of which half are the new images of the batch before."""

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Balanced, Overlapping
from classmates.errors import UserError
from tests.data.batches.conftest import batches_of


@settings(max_examples=60)
@given(st.integers(4, 60), st.integers(2, 9), st.integers(1, 3), st.integers(0, 3))
def test_each_batch_repeats_the_new_images_of_the_one_before(count, half, world_size, epoch):
    half *= world_size
    assume(half < count)
    labels = torch.arange(count) % 3
    for sampling in (Overlapping(), Balanced(Overlapping())):
        new = []
        for rank in range(world_size):  # each process finds what it has seen itself
            batches = batches_of(EpochSampler(sampling, labels, 2 * half, rank=rank, world_size=world_size), epoch)
            assert len(batches) == -(-count // half)
            assert all(one[1::2] == other[0::2] for one, other in pairwise(batches))
            assert batches[-1][1::2] == batches[0][0::2]
            new += [index for batch in batches for index in batch[1::2]]
        assert len(new) == -(-count // half) * half
        if sampling == Overlapping():
            assert sorted(set(new)) == list(range(count))


def test_images_too_few_to_overlap_name_the_batch_size_that_can():
    labels = torch.zeros(6, dtype=torch.long)
    with pytest.raises(UserError, match=r"batch_size is 12, half .* 6 training images need one of 10 or less"):
        EpochSampler(Overlapping(), labels, 12)
    assert len(EpochSampler(Overlapping(), labels, 10)) == 2
