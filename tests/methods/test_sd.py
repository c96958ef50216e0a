import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.methods import SD
from classmates.methods.sd import embedding_distance


def random_embeddings(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 5))
def test_distance_is_the_formula(seed, exits, batch):
    shallow, deepest = random_embeddings(seed, exits, batch, 4), random_embeddings(seed + 1, batch, 4)
    norm = squared = 0.0
    for exit_ in shallow.tolist():
        squares = [
            sum((a - b) ** 2 for a, b in zip(f, g, strict=True)) for f, g in zip(exit_, deepest.tolist(), strict=True)
        ]
        norm += math.sqrt(sum(squares))
        squared += sum(squares) / batch
    assert embedding_distance(shallow, deepest).item() == pytest.approx(norm, rel=1e-5)
    assert embedding_distance(shallow, deepest, "squared").item() == pytest.approx(squared, rel=1e-5)


def test_distance_grows_with_the_batch_as_documented_and_ignores_a_common_shift():
    shallow, deepest = random_embeddings(0, 2, 3, 4), random_embeddings(1, 3, 4)
    twice = shallow.repeat(1, 4, 1), deepest.repeat(4, 1)
    torch.testing.assert_close(embedding_distance(*twice), 2 * embedding_distance(shallow, deepest))
    for distance in ("norm", "squared"):
        value = embedding_distance(shallow, deepest, distance)
        torch.testing.assert_close(embedding_distance(shallow + 3, deepest + 3, distance), value)
    torch.testing.assert_close(embedding_distance(*twice, "squared"), embedding_distance(shallow, deepest, "squared"))
    half = shallow.bfloat16(), deepest.bfloat16()
    assert embedding_distance(*half).dtype == torch.float32


def test_distance_gradients():
    shallow = random_embeddings(0, 2, 3, 4).requires_grad_()
    deepest = random_embeddings(1, 3, 4).requires_grad_()
    embedding_distance(shallow, deepest).backward()
    difference = (shallow - deepest).detach()
    torch.testing.assert_close(shallow.grad, difference / difference.norm(dim=(1, 2), keepdim=True))
    assert deepest.grad is None
    shallow.grad = None
    embedding_distance(shallow, deepest, "squared").backward()
    torch.testing.assert_close(shallow.grad, 2 * difference / 3)


@pytest.mark.parametrize("distance", ["norm", "squared"])
def test_equal_embeddings_have_no_distance_and_no_gradient(distance):
    deepest = random_embeddings(0, 3, 4)
    shallow = deepest.expand(2, 3, 4).clone().requires_grad_()
    value = embedding_distance(shallow, deepest, distance)
    value.backward()
    assert value.item() == 0
    assert torch.equal(shallow.grad, torch.zeros(2, 3, 4))


@pytest.fixture
def make(tiny_network, tiny_data):
    def make(**options):
        torch.manual_seed(0)
        return SD(tiny_network(), tiny_data, **options)

    return make


@pytest.mark.parametrize("skip", ["deepest", "shallowest", "none"])
@pytest.mark.parametrize("scale", [True, False])
def test_the_loss_is_the_formula(make, tiny_batch, skip, scale):
    method = make(alpha=0.4, lam=0.2, temperature=2.0, skip=skip, scale=scale)
    step = method(tiny_batch)
    output = step.outputs[-1]
    logits, embeddings = method.shallow(output.stages)  # in training mode: the same batch statistics
    soft = (output.logits.detach() / 2).softmax(-1)
    expected = F.cross_entropy(output.logits, tiny_batch.labels)
    for row in logits:
        cross_entropy = -(soft * (row / 2).log_softmax(-1)).sum(-1).mean()
        entropy = -(soft * soft.log()).sum(-1).mean()
        kl = (cross_entropy - entropy) * (4 if scale else 1)
        expected = expected + 0.6 * F.cross_entropy(row, tiny_batch.labels) + 0.4 * kl
    hinted = {"deepest": [0], "shallowest": [1], "none": [0, 1]}[skip]
    for adapter, place in zip(method.adapters, hinted, strict=True):
        difference = adapter(embeddings[place]) - output.embedding.detach()
        expected = expected + 0.2 * difference.square().sum().sqrt()
    torch.testing.assert_close(step.total, expected)


def test_released_values_are_the_defaults(make):
    method = make()
    assert method.weights == {"ce": 1.0, "exits": 0.7, "distillation": 0.3, "embeddings": 0.03}
    assert method.temperature == 3.0


def test_every_part_learns_from_the_start(make, tiny_batch):
    method = make()
    assert [tuple(adapter.weight.shape) for adapter in method.adapters] == [(10, 10)]
    method(tiny_batch).total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_deepest_exit_teaches_and_is_not_taught(make, tiny_batch):
    method = make(skip="none")
    method.weights |= {"ce": 0, "exits": 0}
    method(tiny_batch).total.backward()
    assert not method.student().fc.weight.grad.any()
    assert not method.student().stage3[0].weight.grad.any()  # reached only through the deepest exit
    assert method.student().stage1[0].weight.grad.abs().sum() > 0


def test_without_adaptation_and_attention_it_has_no_such_layers(make, tiny_batch):
    method = make(distance="squared", skip="none", attention=False, adaptation=False)
    assert not list(method.adapters.parameters())
    assert all(isinstance(exit_.attention, nn.Identity) for exit_ in method.shallow.exits)
    output = method(tiny_batch)
    _, embeddings = method.shallow(output.outputs[-1].stages)
    difference = embeddings - output.outputs[-1].embedding
    torch.testing.assert_close(output.terms["embeddings"], difference.square().sum() / 9)


def test_one_shallow_exit_needs_no_skip(make):
    with pytest.raises(UserError, match="skip='deepest' leaves no embedding to compare"):
        make(depths=2)
    assert len(make(depths=2, skip="none").adapters) == 1
    assert len(make(depths=2, lam=0).adapters) == 0


def test_it_runs_in_half_precision(make, tiny_batch):
    method = make(skip="none")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method(tiny_batch)
    assert output.total.dtype == torch.float32
    assert all(term.dtype == torch.float32 and term.isfinite() for term in output.terms.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.2}, "alpha=1.2"),
        ({"lam": -1}, "lam=-1"),
        ({"temperature": 0}, "temperature=0"),
        ({"distance": "norms"}, "unknown distance 'norms': did you mean 'norm'"),
        ({"skip": "deep"}, "unknown skip 'deep': did you mean 'deepest'"),
        ({"depths": 1}, "depths=1"),
    ],
)
def test_wrong_options_are_named(make, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)
