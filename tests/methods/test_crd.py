"""CRD against equation 18 of its paper, and beside MCL, whose code it shares."""

import math

import pytest
import torch
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.methods import CRD

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")


@pytest.fixture
def make(tiny_network, tiny_data):
    def made(**options):
        torch.manual_seed(0)
        settings = {"num_negatives": 5, "dimension": 6, "temperature": 0.5, "negatives": "independent", **options}
        return CRD(tiny_network(), tiny_data, teacher=tiny_network(widths=(3, 7), seed=1), **settings)

    return made


def by_hand(method, batch, bank, drawn, tau):
    """L_contrast in float64 as the paper has it: h = e/Z / (e/Z + K/N), Z the first batch's mean of e times N."""
    samples, k = bank.shape[1], drawn.shape[1]
    sides = [method.networks(batch.images)[-1].embedding, method.teacher(batch.images).embedding]
    total = 0.0
    for anchor, (features, layer) in enumerate(zip(sides, method.contrast.projections.layers, strict=True)):
        embedded = features.detach().double() @ layer.weight.detach().double().T + layer.bias.detach().double()
        embedded = embedded / embedded.norm(dim=1, keepdim=True)
        other = bank[1 - anchor].double()
        scores = [
            [math.exp(float(one @ other[row]) / tau) for row in (index, *rows)]
            for one, index, rows in zip(embedded, batch.indices.tolist(), drawn.tolist(), strict=True)
        ]
        z = samples * sum(map(sum, scores)) / (len(scores) * (k + 1))
        for row in scores:
            h = [score / z / (score / z + k / samples) for score in row]
            total -= (math.log(h[0]) + sum(math.log(1 - one) for one in h[1:])) / len(scores)
    return total


def test_the_total_is_the_formula(make, tiny_batch):
    method = make(beta=0.3, temperature=0.4).eval()
    bank = method.contrast.bank.rows.clone()
    torch.manual_seed(5)
    output = method(tiny_batch)
    torch.manual_seed(5)
    drawn = method.contrast.classes.draw(tiny_batch.labels, 5)
    assert not (method.contrast.classes.labels[drawn] == tiny_batch.labels[:, None]).any()
    expected = by_hand(method, tiny_batch, bank, drawn, 0.4)
    assert output.terms["contrast"].item() == pytest.approx(expected, rel=1e-4)
    ce = F.cross_entropy(output.outputs[-1].logits, tiny_batch.labels)
    assert output.total.item() == pytest.approx(ce.item() + 0.3 * expected, rel=1e-4)


def test_the_student_and_both_projections_learn(make, tiny_batch):
    method = make()
    method(tiny_batch).terms["contrast"].backward()
    student, teacher = method.contrast.projections.layers
    assert student.weight.grad.any()
    assert teacher.weight.grad.any()
    assert method.networks.student.stage1[0].weight.grad.any()
    assert not any(parameter.requires_grad for parameter in method.teacher.network.parameters())


def test_banks_learn_of_the_batch_in_training_only(make, tiny_batch):
    method = make(momentum=0.0)
    before = method.contrast.bank.rows.clone()
    method.eval()(tiny_batch)
    assert torch.equal(method.contrast.bank.rows, before)
    method.train()(tiny_batch)
    with torch.no_grad():
        taught = F.normalize(
            method.contrast.projections.layers[1](method.teacher(tiny_batch.images).embedding), dim=1
        )
    torch.testing.assert_close(method.contrast.bank.read(tiny_batch.indices)[1], taught)


def test_released_values_are_the_defaults(tiny_network, tiny_data):
    method = CRD(tiny_network(), tiny_data, teacher=tiny_network())
    assert method.weights == {"ce": 1.0, "contrast": 0.8}
    contrast = method.contrast
    assert (contrast.temperature, contrast.normaliser, contrast.positives) == (0.07, "first_batch", "bank")
    assert contrast.bank.rows.shape == (2, 36, 128)
    assert method.notes == [
        "num_negatives=16384 capped to 27: the training data have no more samples outside their largest class"
    ]


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"num_negatives": 0}, {"normaliser": "frist_batch"}, {"negatives": "none"}]
)
def test_wrong_options_are_told(make, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make(**options)
