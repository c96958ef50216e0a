"""Peers as one network learn what they learn one after the other: loss, gradients and BatchNorm's statistics."""

import pytest
import torch
from torch import Tensor

from benchmarks.peers import PEERS, SHARED, Grouped, Loop, Step, Vmap


def of_peers(step: Step) -> dict[str, Tensor]:
    """Gradients and statistics, the peers' along the first axis, [M, ...]; the trunk's as they are."""
    found = {f"trunk.{name}": parameter.grad for name, parameter in step.trunk.named_parameters()}
    found |= {f"trunk.{name}": buffer for name, buffer in step.trunk.named_buffers()}
    if isinstance(step.peers, Grouped):
        network = step.peers.network
        found |= {name: parameter.grad.unflatten(0, (PEERS, -1)) for name, parameter in network.named_parameters()}
        found |= {
            name: buffer.unflatten(0, (PEERS, -1)) if buffer.ndim else buffer.expand(PEERS)
            for name, buffer in network.named_buffers()
        }
    elif isinstance(step.peers, Vmap):
        found |= {name: one.grad for name, one in zip(step.peers.names, step.peers.weights, strict=True)}
        found |= step.peers.statistics
    else:
        for name, _ in step.peers.peers[0].named_parameters():
            found[name] = torch.stack([peer.get_parameter(name).grad for peer in step.peers.peers])
        for name, _ in step.peers.peers[0].named_buffers():
            found[name] = torch.stack([peer.get_buffer(name) for peer in step.peers.peers])
    return found


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("way", [Grouped, Vmap])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_as_one_after_the_other(way, shared: int, layout: str) -> None:
    loop, other = (Step(kind, "resnet8", shared, layout, batch_size=6) for kind in (Loop, way))
    for _ in range(2):  # the second time from statistics that are not those of the beginning
        torch.testing.assert_close(other(), loop(), rtol=1e-5, atol=1e-5)
    expected, found = of_peers(loop), of_peers(other)
    assert found.keys() == expected.keys()
    assert expected["0.1.running_mean" if not shared else "0.0.conv1.weight"].shape[0] == PEERS
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
