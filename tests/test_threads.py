import torch

from classmates._threads import torch_threads
from classmates.networks.backbone.probe import record_calls


def test_threads_are_as_before_afterwards():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_network_is_probed_by_one_thread(tiny_network):
    """Two images keep no second thread busy: many of them wait for one another, for minutes on sixteen cores."""
    network, seen = tiny_network(), []
    network.fc.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    with torch_threads(2):
        record_calls(network, (3, 16, 16))
        assert torch.get_num_threads() == 2
    assert seen == [1]
