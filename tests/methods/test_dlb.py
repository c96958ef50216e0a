import math

import pytest
import torch
from torch.nn import functional as F

from classmates.data.batches.sampling import Overlapping
from classmates.errors import UserError
from classmates.methods import DLB


def kl(teacher, student):
    """KL(teacher ‖ student) at T = 3, by loops in Python's float64."""
    total = 0.0
    for t, s in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(value / 3) for value in row] for row in (t, s))
        total += sum(a / sum(p) * math.log(a / sum(p) * sum(q) / b) for a, b in zip(p, q, strict=True))
    return total / len(teacher)


@pytest.fixture
def method(tiny_network, tiny_data):
    return DLB(tiny_network(), tiny_data, alpha=0.5)


def test_the_new_images_of_one_step_teach_the_repeated_ones_of_the_next(method, batch_for):
    first, second = batch_for(method), batch_for(method, 1)
    assert torch.equal(first.indices[1::2], second.indices[0::2])
    before = method(first).outputs[-1].logits.detach()[1::2]
    output = method(second)
    logits = output.outputs[-1].logits
    distillation = kl(before, logits[0::2])
    assert output.terms["distillation"].item() == pytest.approx(distillation, rel=1e-4)
    expected = F.cross_entropy(logits, second.labels).item() + 0.5 * 9 * distillation
    assert output.total.item() == pytest.approx(expected, rel=1e-4)


def test_new_images_get_no_gradient_of_it(method, batch_for):
    method(batch_for(method))
    logits = torch.randn(24, 4, requires_grad=True)
    method.distillation(logits, batch_for(method, 1).indices).backward()
    assert logits.grad[0::2].any()
    assert not logits.grad[1::2].any()


def test_without_a_step_before_there_is_nothing_to_learn(method, batch_for):
    assert method(batch_for(method)).terms["distillation"] == 0
    method(batch_for(method, 1))
    assert method(batch_for(method)).terms["distillation"] == 0  # one batch was left out
    odd = batch_for(method).take(slice(0, 8))
    assert method(odd).terms["distillation"] == 0  # of another size


def test_what_it_keeps_goes_through_a_checkpoint(method, batch_for, tiny_network, tiny_data, tmp_path):
    method(batch_for(method))
    torch.save(method.state_dict(), tmp_path / "state.pt")
    other = DLB(tiny_network(seed=1), tiny_data, alpha=0.5)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second = batch_for(method, 1)
    assert torch.equal(other(second).total, method(second).total)
    assert method(second).terms["distillation"] == 0


def test_a_process_finds_its_own_among_those_of_all(method, batch_for, monkeypatch):
    """A checkpoint, which the first process writes, has what every one goes on with."""

    def in_turn(mine):
        return torch.stack([torch.zeros_like(mine), mine], dim=1).flatten(0, 1)

    second = batch_for(method, 1)
    own = method(batch_for(method)).outputs[-1].logits.detach()[1::2]
    alone = method(second).terms["distillation"]
    monkeypatch.setattr("classmates.methods.dlb.gather_in_turn", in_turn)
    monkeypatch.setattr("classmates.methods.dlb.own_in_turn", lambda all: all[1::2])
    method.train()(batch_for(method))
    assert torch.equal(method.get_extra_state()["logits"][1::2], own)
    assert method(second).terms["distillation"] == alone


def test_what_it_keeps_stays_in_its_place(method, batch_for):
    """A CUDA graph reads and writes where it was captured."""
    method(batch_for(method))
    places = method.last_indices.data_ptr(), method.last_logits.data_ptr()
    second = batch_for(method, 1)
    logits = method(second).outputs[-1].logits.detach()
    assert (method.last_indices.data_ptr(), method.last_logits.data_ptr()) == places
    assert torch.equal(method.last_indices, second.indices[1::2])
    assert torch.equal(method.last_logits, logits[1::2])


def test_evaluation_keeps_nothing(method, batch_for):
    method(batch_for(method))
    kept = method.last_indices
    method.eval()(batch_for(method, 1))
    assert method.last_indices is kept


def test_batches_overlap(method, tiny_batch):
    assert method.sampling == Overlapping()
    with pytest.raises(UserError, match=r"a batch of 9 images has no two halves: use Overlapping\(\)"):
        method.eval()(tiny_batch)


@pytest.mark.parametrize(("options", "message"), [({"alpha": -1}, "alpha=-1"), ({"temperature": 0}, "temperature=0")])
def test_wrong_options_are_named(options, message, tiny_network, tiny_data):
    with pytest.raises(UserError, match=message):
        DLB(tiny_network(), tiny_data, **options)
