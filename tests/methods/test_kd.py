import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import KD

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network() -> nn.Module:
    return timm.create_model("resnet8", num_classes=4, in_chans=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_total_is_the_formula(temperature: float) -> None:
    method = KD(network(), DATA, teacher=network(), temperature=temperature).eval()
    output = method(BATCH)
    z, t = (
        output.outputs[-1].logits.double() / temperature,
        method.teacher(BATCH.images).logits.double() / temperature,
    )
    kl = (t.softmax(1) * (t.log_softmax(1) - z.log_softmax(1))).sum(1).mean()
    expected = 0.1 * F.cross_entropy(output.outputs[-1].logits, BATCH.labels) + 0.9 * temperature**2 * kl
    assert output.total.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    student = network().eval()
    method = KD(student, DATA, teacher=student).eval()
    assert method(BATCH).terms["distillation"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_wrong_options_are_told(temperature: float) -> None:
    with pytest.raises(UserError, match=f"temperature={temperature}"):
        KD(network(), DATA, teacher=network(), temperature=temperature)
