import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.losses.correlation import inter_class, intra_class
from classmates.methods import DIST


@pytest.fixture
def make(tiny_network, tiny_data):
    return lambda **options: DIST(tiny_network(), tiny_data, teacher=tiny_network(seed=1), **options).eval()


def test_the_total_is_the_formula(make, tiny_batch):
    method = make(temperature=2.0, ce=0.7, inter=0.5, intra=3.0)
    output = method(tiny_batch)
    logits, teacher = output.outputs[-1].logits, method.teacher(tiny_batch.images).logits
    correlated = 0.5 * inter_class(logits, teacher, 2.0) + 3 * intra_class(logits, teacher, 2.0)
    expected = 0.7 * F.cross_entropy(logits, tiny_batch.labels) + 4 * correlated
    torch.testing.assert_close(output.total, expected)


def test_released_values_are_the_defaults(make):
    assert make().weights == {"ce": 1.0, "inter": 32.0, "intra": 32.0}


@pytest.mark.parametrize("term", ["inter", "intra"])
def test_each_term_teaches_the_student(make, tiny_batch, term):
    method = make()
    method(tiny_batch).terms[term].backward()
    assert method.networks.student.stage1[0].weight.grad.any()


def test_wrong_options_are_told(make, tiny_network):
    with pytest.raises(UserError, match=r"temperature=0\.0"):
        make(temperature=0.0)
    data = DataSpec(2, torch.arange(8) % 2, (3, 16, 16))
    with pytest.raises(UserError, match=r"the data have 2 classes: .* inter=0"):
        DIST(tiny_network(num_classes=2), data, teacher=tiny_network(num_classes=2))
    DIST(tiny_network(num_classes=2), data, teacher=tiny_network(num_classes=2), inter=0)
