import pytest
import timm
import torch

from classmates.contracts import Batch, DataSpec
from classmates.losses.similarity import similarity_preserving
from classmates.methods import SP

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def test_the_deepest_maps_are_compared_and_equal_ones_cost_nothing() -> None:
    student, teacher = (timm.create_model(name, num_classes=4, in_chans=1) for name in ("resnet8", "resnet18_cifar"))
    method = SP(student, DATA, teacher=teacher).eval()
    output = method(BATCH)
    expected = similarity_preserving(output.outputs[-1].stages[-1], method.teacher(BATCH.images).stages[-1]).item()
    assert expected > 0
    assert output.total.item() == pytest.approx(output.terms["ce"].item() + 3000 * expected, rel=1e-5)
    same = SP(student.eval(), DATA, teacher=student).eval()(BATCH)
    assert same.terms["similarity"].item() == 0
