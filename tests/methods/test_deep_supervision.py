import pytest
import torch
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.methods import DeepSupervision


@pytest.fixture
def method(tiny_network, tiny_data):
    torch.manual_seed(0)
    return DeepSupervision(tiny_network(), tiny_data, weight=0.5)


def test_the_loss_is_every_exits_cross_entropy(method, tiny_batch):
    output = method(tiny_batch)
    logits = method.shallow(output.outputs[-1].stages).logits  # in training mode: the same batch statistics
    shallow = sum(F.cross_entropy(row, tiny_batch.labels) for row in logits)
    deepest = F.cross_entropy(output.outputs[-1].logits, tiny_batch.labels)
    torch.testing.assert_close(output.terms["exits"], shallow)
    torch.testing.assert_close(output.total, deepest + 0.5 * shallow)


def test_every_part_learns_and_the_trunk_from_all_exits(method, tiny_batch):
    method(tiny_batch).total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    together = method.student().stage1[0].weight.grad.clone()
    method.zero_grad()
    method.weights["exits"] = 0
    method(tiny_batch).total.backward()
    assert not torch.allclose(together, method.student().stage1[0].weight.grad)
    assert all(parameter.grad is None for parameter in method.shallow.parameters())


def test_predictions_name_student_exits_and_the_ensemble_of_all(method, tiny_batch):
    method.eval()
    outputs = method.networks(tiny_batch.images)
    predictions = method.predictions(outputs)
    assert list(predictions) == ["student", "exit1", "exit2", "ensemble"]
    logits = torch.stack([predictions[who] for who in ("exit1", "exit2", "student")])
    torch.testing.assert_close(predictions["ensemble"], logits.mean(0))
    torch.testing.assert_close(method.exits().eval()(tiny_batch.images), logits)
    torch.testing.assert_close(method.student()(tiny_batch.images), predictions["student"])


def test_a_negative_weight_is_refused(tiny_network, tiny_data):
    with pytest.raises(UserError, match="weight=-1: a weight must be 0 or more"):
        DeepSupervision(tiny_network(), tiny_data, weight=-1)
