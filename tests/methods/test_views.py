"""Peers that each see an augmentation of their own, as any method may offer."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import Baseline, MCLBatch, Method
from classmates.networks.peers.peers import Peers
from tests.methods.conftest import with_views

Make = Callable[..., nn.Module]


class Own(Baseline):
    """Labels alone, peers as many as asked for, with views of their own."""

    def __init__(self, network: nn.Module, data: DataSpec, *, peers: int = 2):
        Method.__init__(self, Peers(network, data, peers), data, views="own")


def test_peers_see_their_own_view_and_the_last_is_the_student(
    tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    method = Own(tiny_network(), tiny_data)
    assert method.views == 2
    batch = with_views(tiny_batch, method)
    outputs = method(batch).outputs
    for network, output, images in zip(method.networks.networks, outputs, batch.views, strict=True):
        assert torch.equal(network(images), output.logits)
    assert torch.equal(method.student()(batch.images), outputs[-1].logits)


def test_views_that_are_shared_cost_nothing(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    method = MCLBatch(tiny_network(), tiny_data)
    assert method.views == 1
    assert method(tiny_batch).total.isfinite()


def test_what_cannot_be_or_means_nothing(tiny_network: Make, tiny_data: DataSpec) -> None:
    with pytest.raises(UserError, match="views='own': a single network has no peers"):
        Own(tiny_network(), tiny_data, peers=1)
    with pytest.warns(UserWarning, match="views='own', but the images are not augmented"):
        MCLBatch(tiny_network(), replace(tiny_data, augmented=False), views="own")


def test_a_batch_of_other_views_is_refused(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    method = Own(tiny_network(), tiny_data)
    for views in ((), (tiny_batch.images,) * 3):
        with pytest.raises(UserError, match=f"a batch of {len(views)} views: Own shows each of its 2 networks"):
            method(tiny_batch._replace(views=views))
