"""Deep mutual learning: the formula, its symmetry, and who learns from whom."""

import math

import pytest
import timm
import torch

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods.dml import DML, mutual_kl

DATA = DataSpec(5, torch.arange(40) % 5, (1, 8, 8))


def student(name="resnet8"):
    return timm.create_model(name, num_classes=5, in_chans=1)


def batch(seed=0):
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(images, torch.arange(12) % 5, torch.arange(12))


def reference(logits, temperature):
    """Eq. 6 by loops, in float64."""
    peers, count, classes = logits.shape
    p = [[softmax(logits[m, n], temperature) for n in range(count)] for m in range(peers)]
    total = 0.0
    for i in range(peers):
        for j in range(peers):
            if i != j:
                for n in range(count):
                    for c in range(classes):
                        total += p[j][n][c] * math.log(p[j][n][c] / p[i][n][c]) / count / (peers - 1)
    return total


def softmax(row, temperature):
    powers = [math.exp(value / temperature) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("peers", [2, 3, 5])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_equals_the_formula(peers, temperature):
    logits = torch.randn(peers, 4, 3, dtype=torch.float64) * 2
    assert mutual_kl(logits, temperature).item() == pytest.approx(reference(logits, temperature), rel=1e-5)


def test_symmetric_in_its_peers_and_zero_where_they_agree():
    logits = torch.randn(3, 6, 4)
    assert mutual_kl(logits[[2, 0, 1]], 2.0).item() == pytest.approx(mutual_kl(logits, 2.0).item(), rel=1e-5)
    assert mutual_kl(logits[:1].expand(3, -1, -1), 2.0).item() == pytest.approx(0, abs=1e-6)


def test_each_peer_is_pulled_to_the_mean_of_the_others():
    """Targets are constant, so d/dz_i of the KL is (p_i − mean of the others' p)/(B·T) and nothing more."""
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    mutual_kl(logits, 2.0).backward()
    p = (logits.detach() / 2).softmax(-1)
    for i in range(3):
        others = p[[j for j in range(3) if j != i]].mean(0)
        torch.testing.assert_close(logits.grad[i], (p[i] - others) / 4 / 2, rtol=1e-4, atol=1e-6)


def test_total_is_the_sum_over_peers():
    method = DML(student(), DATA, peers=3, mutual=0.5, temperature=2.0)
    outputs, terms, total = method(batch())
    alone = sum(torch.nn.functional.cross_entropy(output.logits, batch().labels) for output in outputs)
    torch.testing.assert_close(terms["ce"], alone)
    torch.testing.assert_close(total, alone + 0.5 * 4 * terms["mutual"])


def test_another_architecture_and_a_trunk():
    helped = DML(student(), DATA, peer_models=[student("resnet14")])
    assert [output.logits.shape for output in helped(batch()).outputs] == [(12, 5)] * 2
    shared = DML(student(), DATA, peers=4, share=-2)
    assert len(shared(batch()).outputs) == 4


@pytest.mark.parametrize("wrong", [{"peers": 1}, {"temperature": 0.0}, {"share": "layer9"}])
def test_what_cannot_work(wrong):
    with pytest.raises(UserError, match=str(next(iter(wrong)))):
        DML(student(), DATA, **wrong)
