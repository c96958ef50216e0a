import pytest
import torch
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.methods import LabelSmoothing


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_the_loss_is_cross_entropy_with_smoothed_labels(tiny_network, tiny_data, tiny_batch, epsilon):
    method = LabelSmoothing(tiny_network(), tiny_data, epsilon=epsilon)
    output = method(tiny_batch)
    log_probabilities = output.outputs[-1].logits.detach().double().log_softmax(-1)
    targets = (1 - epsilon) * torch.eye(4)[tiny_batch.labels] + epsilon / 4
    expected = -(targets * log_probabilities).sum(1).mean()
    assert output.total.item() == pytest.approx(expected.item(), rel=1e-5)
    if epsilon == 0:
        torch.testing.assert_close(output.total, F.cross_entropy(output.outputs[-1].logits, tiny_batch.labels))
    output.total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_default_is_the_papers_and_the_student_the_network(tiny_network, tiny_data):
    network = tiny_network()
    method = LabelSmoothing(network, tiny_data)
    assert method.epsilon == 0.1
    assert method.student() is network


@pytest.mark.parametrize("epsilon", [-0.1, 1.0])
def test_a_share_that_leaves_no_labels_is_refused(tiny_network, tiny_data, epsilon):
    with pytest.raises(UserError, match=f"epsilon={epsilon}"):
        LabelSmoothing(tiny_network(), tiny_data, epsilon=epsilon)
