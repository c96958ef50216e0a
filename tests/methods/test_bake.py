import pytest
import torch
from torch.nn import functional as F

from classmates.data.batches.sampling import ClassUniform, Shuffled
from classmates.errors import UserError
from classmates.losses.propagation import propagated_kl
from classmates.methods import BAKE


def test_the_total_is_the_formula(tiny_network, tiny_data, batch_for):
    method = BAKE(tiny_network(), tiny_data, lam=0.5, omega=0.8, temperature=2.0, intra=1)
    batch = batch_for(method)
    output = method(batch)
    (one,) = output.outputs
    spread = propagated_kl(one.logits, one.embedding, 0.8, 2.0)
    torch.testing.assert_close(output.total, F.cross_entropy(one.logits, batch.labels) + 0.5 * 4 * spread)


def test_batches_hold_images_of_one_class(tiny_network, tiny_data):
    assert BAKE(tiny_network(), tiny_data).sampling == ClassUniform(4)
    assert BAKE(tiny_network(), tiny_data, intra=1).sampling == ClassUniform(2)
    assert BAKE(tiny_network(), tiny_data, intra=0).sampling == Shuffled()


def test_defaults_are_the_released_ones(tiny_network, tiny_data):
    method = BAKE(tiny_network(), tiny_data)
    assert (method.weights, method.omega, method.temperature) == ({"ce": 1.0, "distillation": 16.0}, 0.5, 4.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1}, "lam=-1"),
        ({"omega": 1}, "omega=1"),
        ({"temperature": 0}, "temperature=0"),
        ({"intra": -1}, "intra=-1"),
    ],
)
def test_wrong_options_are_named(options, message, tiny_network, tiny_data):
    with pytest.raises(UserError, match=message):
        BAKE(tiny_network(), tiny_data, **options)
