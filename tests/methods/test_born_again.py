"""BornAgain: when a generation begins, from what, and what teaches it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods import BornAgain
from classmates.methods.born_again import exchange

Make = Callable[..., nn.Module]


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_trained_generation_teaches_one_that_begins_anew(
    tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch
) -> None:
    method = BornAgain(tiny_network(), tiny_data, generations=3, temperature=2.0, distillation=0.5)
    method.epochs = 5  # two epochs, two epochs, one
    optimizer = torch.optim.SGD([one for one in method.parameters() if one.requires_grad], lr=0.5)
    fresh = [state(network) for network in method.others]
    for epoch in range(5):
        method.epoch = epoch
        before = state(method.student())
        output = method(tiny_batch)
        if epoch in (2, 4):
            teacher = method.others[epoch // 2 - 1]
            assert same(state(teacher), before)
            # BatchNorm's statistics have moved with the step itself
            begun = {name: value for name, value in fresh[epoch // 2 - 1].items() if "running" not in name}
            begun = {name: value for name, value in begun.items() if "num_batches" not in name}
            assert same(begun, state(method.student()))
            with torch.no_grad():
                expected = softened_kl(output.outputs[-1].logits, teacher(tiny_batch.images), 2.0)
            torch.testing.assert_close(output.terms["distillation"], expected)
            torch.testing.assert_close(output.total, output.terms["ce"] + 0.5 * 4 * output.terms["distillation"])
        assert ("distillation" in output.terms) == (epoch >= 2)
        assert not any(network.training for network in method.others)
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        assert not same(state(method.student()), before)
    assert all(one.grad is None for one in method.others.parameters())


def test_generations_begin_from_weights_of_their_own_or_from_the_same(
    tiny_network: Make, tiny_data: DataSpec
) -> None:
    network = tiny_network()
    fresh, other = BornAgain(network, tiny_data, generations=3).others
    first = network.stage1[0].weight
    assert not torch.equal(fresh.stage1[0].weight, first)
    assert not torch.equal(fresh.stage1[0].weight, other.stage1[0].weight)
    torch.testing.assert_close(fresh.stage1[0].weight.sort().values.std(), first.std(), rtol=0.2, atol=0)
    (again,) = BornAgain(network, tiny_data, start="same").others
    assert torch.equal(again.stage1[0].weight, first)
    assert not torch.equal(again.fc.weight, network.fc.weight)
    assert BornAgain.from_weights({"start": "fresh"}, frozenset()) == {"start": "same"}


def test_evaluation_begins_no_generation(tiny_network: Make, tiny_data: DataSpec, tiny_batch: Batch) -> None:
    method = BornAgain(tiny_network(), tiny_data).eval()
    method.epoch, method.epochs = 3, 4
    before = state(method.student())
    method.networks(tiny_batch.images)
    assert same(before, state(method.student()))
    assert method.generation == 0


def test_teachers_stay_in_evaluation_mode_when_training_goes_on(tiny_network: Make, tiny_data: DataSpec) -> None:
    method = BornAgain(tiny_network(), tiny_data)
    method.eval().train()  # as after validation
    assert method.student().training
    assert not any(module.training for module in method.others.modules())


def test_weights_that_two_layers_share_change_places_too() -> None:
    def shared() -> nn.Module:
        network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        network[1].weight = network[0].weight
        return network

    one, other = shared(), shared()
    before = state(one), state(other)
    exchange(one, other)
    assert same(state(one), before[1])
    assert same(state(other), before[0])
    assert not torch.equal(before[0]["0.weight"], before[1]["0.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generations": 1}, "generations=1: the first has no teacher"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"start": "old"}, "unknown start 'old': there are: fresh, same"),
    ],
)
def test_what_cannot_work(tiny_network: Make, tiny_data: DataSpec, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BornAgain(tiny_network(), tiny_data, **options)


def test_epochs_are_shared_evenly(tiny_network: Make, tiny_data: DataSpec) -> None:
    method = BornAgain(tiny_network(), tiny_data, generations=3)
    with pytest.raises(UserError, match="generations=3 in 2 epochs: each needs 1 or more"):
        method.check_length(2)
    (note,) = method.check_length(600)
    assert "3 generations of 200 epochs" in note
    assert note.endswith("--schedule CosineAnnealingWarmRestarts --schedule_args.T_0 200")
