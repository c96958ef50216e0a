import pytest
import torch
from torch.nn import functional as F

from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.losses.decoupled import non_target_kl, target_kl
from classmates.methods import DKD


@pytest.fixture
def make(tiny_network, tiny_data):
    return lambda **options: DKD(tiny_network(), tiny_data, teacher=tiny_network(seed=1), **options).eval()


def test_the_total_is_the_formula_and_warms_up(make, tiny_batch):
    method = make(temperature=2.0, alpha=0.5, beta=3.0, ce=0.7, warmup=4)
    method.epochs = 10
    for epoch, factor in {0: 0.25, 2: 0.75, 3: 1.0, 9: 1.0}.items():
        method.epoch = epoch
        output = method(tiny_batch)
        labels, logits = tiny_batch.labels, output.outputs[-1].logits
        teacher = method.teacher(tiny_batch.images).logits
        decoupled = 0.5 * target_kl(logits, teacher, labels, 2.0) + 3 * non_target_kl(logits, teacher, labels, 2.0)
        expected = 0.7 * F.cross_entropy(logits, labels) + factor * 4 * decoupled
        torch.testing.assert_close(output.total, expected)


def test_released_values_are_the_defaults(make):
    method = make()
    method.epochs = 240
    assert method.weights == {"ce": 1.0, "target": 16.0, "non_target": 128.0}
    assert method.weight("non_target", epoch=0) == pytest.approx(128 / 20)
    assert method.weight("non_target", epoch=19) == 128
    assert method.check_length(10) == ["warmup=20 epochs, but training has 10: it ends before that is over"]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"warmup": -1}])
def test_wrong_options_are_told(make, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make(**options)


def test_two_classes_are_too_few(tiny_network):
    data = DataSpec(2, torch.arange(8) % 2, (3, 16, 16))
    with pytest.raises(UserError, match="the data have 2 classes: DKD needs 3 or more"):
        DKD(tiny_network(num_classes=2), data, teacher=tiny_network(num_classes=2))
