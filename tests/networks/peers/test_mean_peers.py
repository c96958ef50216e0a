import copy

import pytest
import torch

from classmates.contracts import Batch
from classmates.networks.peers.mean_peers import MeanPeers
from classmates.networks.peers.peers import Peers


@pytest.fixture
def peers(tiny_network, tiny_data):
    return Peers(tiny_network(), tiny_data, 2, share=-1)


def change(peers):
    with torch.no_grad():
        for parameter in peers.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_weights_follow_as_the_recursion_says(peers, decay):
    means = MeanPeers(peers, decay)
    expected = [parameter.double() for parameter in peers.parameters()]
    for step in range(6):
        if step:
            change(peers)
        means.follow(peers)
        share = min(1 - 1 / step, decay) if step else 0.0
        expected = [share * mean + (1 - share) * now for mean, now in zip(expected, peers.parameters(), strict=True)]
        for mean, right in zip(means.parameters(), expected, strict=True):
            torch.testing.assert_close(mean.double(), right, rtol=1e-4, atol=1e-5)


def test_at_first_they_are_the_plain_mean(peers):
    means, seen = MeanPeers(peers, 0.999), []
    for step in range(5):
        change(peers)
        if step:
            seen.append(torch.cat([parameter.detach().flatten() for parameter in peers.parameters()]))
        means.follow(peers)
    mean = torch.cat([parameter.flatten() for parameter in means.parameters()])
    torch.testing.assert_close(mean, torch.stack(seen).mean(0), rtol=1e-4, atol=1e-4)


def test_no_gradient_reaches_them_and_they_share_nothing(peers, tiny_batch):
    means = MeanPeers(peers, 0.9)
    outputs = means(tiny_batch)
    assert not any(output.logits.requires_grad for output in outputs)
    assert not any(parameter.requires_grad for parameter in means.parameters())
    assert all(parameter.requires_grad for parameter in peers.parameters())
    assert not {p.data_ptr() for p in means.parameters()} & {p.data_ptr() for p in peers.parameters()}
    for output, other in zip(outputs, peers(tiny_batch.images), strict=True):
        assert torch.equal(output.logits, other.logits)


def test_each_looks_at_its_own_view(peers, tiny_batch):
    views = tiny_batch.images.flip(3), tiny_batch.images
    outputs = MeanPeers(peers, 0.9)(Batch(*tiny_batch[:3], views=views))
    for output, other in zip(outputs, peers.forward_each(views), strict=True):
        assert torch.equal(output.logits, other.logits)


def test_the_number_of_steps_is_part_of_the_state(peers):
    means = MeanPeers(peers, 0.999)
    for _ in range(3):
        change(peers)
        means.follow(peers)
    other = MeanPeers(copy.deepcopy(peers), 0.999)
    other.load_state_dict(means.state_dict())
    change(peers)
    means.follow(peers)
    other.follow(peers)
    for one, same in zip(means.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
