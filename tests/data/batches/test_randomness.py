import pytest
import torch

from classmates.data.batches.randomness import generator, shuffled_by_class, stream_seed
from classmates.errors import UserError


def test_a_stream_depends_on_its_purpose_and_every_number():
    seeds = {stream_seed(*key) for key in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]}
    assert len(seeds) == 4
    assert stream_seed("order", 3, 7) == stream_seed("order", 3, 7)


def test_a_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    first = torch.rand(3, generator=generator("a", 1))
    assert torch.equal(first, torch.rand(3, generator=generator("a", 1)))
    assert torch.equal(before, torch.get_rng_state())


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match=r"-1.*0 or more"):
        stream_seed("order", -1, 0)


def test_shuffled_by_class_orders_classes_and_ranks_within_them():
    labels = torch.tensor([2, 0, 2, 2, 0, 1])
    order, rank = shuffled_by_class(labels, generator("a", 0))
    assert sorted(order.tolist()) == list(range(6))
    assert labels[order].tolist() == [0, 0, 1, 2, 2, 2]
    assert rank.tolist() == [0, 1, 0, 0, 1, 2]
    orders = {tuple(shuffled_by_class(labels, generator("a", seed))[0].tolist()) for seed in range(100)}
    assert len(orders) == 2 * 6  # every order of the two and of the three is met
