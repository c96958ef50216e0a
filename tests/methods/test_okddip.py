"""OKDDip: attention among auxiliary peers, the leader, and where gradients flow."""

import pytest
import timm
import torch
from torch.nn import functional as F

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.losses.soft_targets import softened_kl
from classmates.methods.okddip import OKDDip, PeerAttention

DATA = DataSpec(5, torch.arange(40) % 5, (1, 8, 8))


def method(**options):
    torch.manual_seed(0)
    options = {"ramp": 0, **options}
    return OKDDip(timm.create_model("resnet8", num_classes=5, in_chans=1), DATA, **options)


def batch():
    return Batch(torch.randn(12, 1, 8, 8), torch.arange(12) % 5, torch.arange(12))


def test_attention_is_the_softmax_of_products():
    attention = PeerAttention(16)
    embeddings = torch.randn(3, 4, 16)
    weights = attention(embeddings)
    for n in range(4):
        for a in range(3):
            query = attention.query.weight @ embeddings[a, n]
            scores = torch.stack([query @ (attention.key.weight @ embeddings[b, n]) for b in range(3)])
            torch.testing.assert_close(weights[n, a], scores.softmax(0))


def test_attention_and_targets_are_float32_under_autocast(monkeypatch):
    attention = PeerAttention(16)
    attention.query, attention.key = torch.nn.Identity(), torch.nn.Identity()
    embeddings = torch.randn(3, 4, 16)
    exact = attention(embeddings)
    okddip = method(detach=True)
    outputs = okddip.networks(batch().images)[:-1]
    okddip.attention.forward = lambda embeddings: torch.full((12, 3, 3), 1 / 3)
    okddip.kl = lambda student, targets: targets
    with torch.autocast("cpu", torch.bfloat16):
        weights = attention(embeddings)
        targets = okddip.peer_distillation(outputs) / 3
    assert weights.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(weights, exact)
    torch.testing.assert_close(targets, sum(output.logits for output in outputs).expand(3, -1, -1) / 3)


def test_targets_are_mixtures_of_the_auxiliary_peers():
    okddip = method(detach=True)
    outputs, terms, _ = okddip(batch())
    auxiliaries = outputs[:-1]
    attention = okddip.attention(torch.stack([output.embedding for output in auxiliaries]))
    slowly = torch.zeros(())
    for a in range(3):
        target = sum(attention[:, a, b, None] * auxiliaries[b].logits for b in range(3))
        slowly = slowly + softened_kl(auxiliaries[a].logits, target, 3.0)
    torch.testing.assert_close(terms["peer_distillation"], slowly, rtol=1e-4, atol=1e-6)
    mean = sum(output.logits for output in auxiliaries) / 3
    torch.testing.assert_close(terms["leader_distillation"], softened_kl(outputs[-1].logits, mean, 3.0))


def test_the_total_is_the_formula():
    images = batch()
    outputs, terms, total = method(temperature=2.0, distillation=0.5)(images)
    labels = sum(F.cross_entropy(output.logits, images.labels) for output in outputs)
    distilled = terms["peer_distillation"] + terms["leader_distillation"]
    torch.testing.assert_close(total, labels + 0.5 * 4 * distilled)
    assert method().weights == {"ce": 1, "peer_distillation": 9, "leader_distillation": 9}


def test_the_attention_learns_from_the_peers_targets_unless_they_are_detached():
    for detach in (False, True):
        okddip = method(detach=detach)
        okddip(batch()).total.backward()
        gradients = [parameter.grad for parameter in okddip.attention.parameters()]
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients) is not detach


def test_only_the_leader_learns_from_all_when_targets_are_detached():
    okddip = method(detach=True)
    term = okddip(batch()).terms["leader_distillation"]
    for peer in okddip.networks.networks[:-1]:
        gradients = torch.autograd.grad(term, peer.parameters(), allow_unused=True, retain_graph=True)
        assert all(gradient is None or not gradient.any() for gradient in gradients)
    leader = torch.autograd.grad(term, okddip.student().parameters(), allow_unused=True)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in leader)


@pytest.mark.parametrize("wrong", [{"peers": 2}, {"temperature": 0.0}, {"ramp": -2}])
def test_what_cannot_work(wrong):
    with pytest.raises(UserError, match=str(next(iter(wrong)))):
        method(**wrong)
