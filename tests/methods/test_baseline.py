import math
from collections.abc import Callable

import pytest
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.data.batches.sampling import Shuffled
from classmates.methods import Baseline

Make = Callable[..., nn.Module]


def test_cross_entropy_of_the_network_alone(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    network = tiny_network()
    method = Baseline(network, tiny_data)
    output = method(tiny_batch)
    expected = 0.0
    for logits, label in zip(network(tiny_batch.images).tolist(), tiny_batch.labels.tolist(), strict=True):
        expected -= logits[label] - math.log(sum(math.exp(logit) for logit in logits))
    assert list(output.terms) == ["ce"]
    assert output.total.item() == pytest.approx(expected / 9, rel=1e-5)
    assert list(method.predictions(output.outputs)) == ["student"]


def test_nothing_is_added_to_the_network(tiny_network: Make, tiny_data: DataSpec) -> None:
    network = tiny_network()
    method = Baseline(network, tiny_data)
    assert [id(p) for p in method.parameters()] == [id(p) for p in network.parameters()]
    assert len(method.state_dict()) == len(network.state_dict())
    assert method.sampling == Shuffled()
