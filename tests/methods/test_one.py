"""ONE: the gate, the gated ensemble, and who learns from what."""

import math

import pytest
import timm
import torch
from torch.nn import functional as F

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods.one import ONE, Gate

DATA = DataSpec(5, torch.arange(40) % 5, (1, 8, 8))


def method(**options):
    torch.manual_seed(0)
    return ONE(timm.create_model("resnet8", num_classes=5, in_chans=1), DATA, **options)


def batch():
    return Batch(torch.randn(12, 1, 8, 8), torch.arange(12) % 5, torch.arange(12))


def test_gate_weighs_every_branch_for_every_image():
    gate = Gate(6, 4)
    weights = gate(torch.randn(10, 6, 3, 3))
    assert weights.shape == (10, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(10))
    assert (weights > 0).all()


def test_ensemble_is_the_gated_sum():
    one = method(peers=3).eval()
    outputs = one.networks(batch().images)
    gate = one.gate(outputs[-1].stages[-2])
    slowly = torch.stack([sum(gate[n, m] * outputs[m].logits[n] for m in range(3)) for n in range(12)])
    torch.testing.assert_close(one.ensemble(outputs), slowly)
    torch.testing.assert_close(one.predictions(outputs)["ensemble"], slowly)
    assert set(one.predictions(outputs)) == {"student", "peer1", "peer2", "ensemble"}


def test_the_ensemble_is_float32_under_autocast():
    one = method(peers=3).eval()
    outputs = one.networks(batch().images)
    gate = one.gate(outputs[-1].stages[-2])
    exact = (gate.T[:, :, None] * torch.stack([output.logits for output in outputs])).sum(0)
    one.gate.forward = lambda trunk: gate
    with torch.autocast("cpu", torch.bfloat16):
        ensemble = one.ensemble(outputs)
    assert ensemble.dtype == torch.float32
    torch.testing.assert_close(ensemble, exact)


def test_distillation_sums_over_branches_and_ramps_up():
    one = method(peers=3, ramp=10)
    one.epochs, images = 20, batch()
    one.epoch = 10
    outputs, terms, _ = one(images)
    expected = sum(softened_kl(output.logits, one.ensemble(outputs), 3.0) for output in outputs)
    torch.testing.assert_close(terms["distillation"], expected, rtol=1e-4, atol=1e-6)
    assert one.weight("distillation") == 9
    assert one.weight("distillation", epoch=0) == pytest.approx(9 * math.exp(-5))
    assert one.weight("ce") == one.weight("ensemble_ce") == 1


def test_the_gate_learns_from_the_ensembles_cross_entropy_alone():
    one = method(peers=3, ramp=0)
    terms = one(batch()).terms
    for name in ("ce", "distillation"):
        gradients = torch.autograd.grad(terms[name], one.gate.parameters(), allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in gradients), name
    gradients = torch.autograd.grad(terms["ensemble_ce"], one.gate.parameters())
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_cross_entropies():
    one = method(peers=2)
    images = batch()
    outputs, terms, _ = one(images)
    torch.testing.assert_close(terms["ce"], sum(F.cross_entropy(output.logits, images.labels) for output in outputs))
    torch.testing.assert_close(terms["ensemble_ce"], F.cross_entropy(one.ensemble(outputs), images.labels))


def test_the_total_is_the_formula():
    one = method(peers=3, ramp=0, temperature=2.0, distillation=0.5)
    outputs, terms, total = one(batch())
    assert len(outputs) == 3
    torch.testing.assert_close(total, terms["ce"] + terms["ensemble_ce"] + 0.5 * 4 * terms["distillation"])


@pytest.mark.parametrize("wrong", [{"peers": 1}, {"temperature": -1.0}, {"ramp": -1}, {"share": "nothing"}])
def test_what_cannot_work(wrong):
    with pytest.raises(UserError, match=str(next(iter(wrong)))):
        method(**wrong)
