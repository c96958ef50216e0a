import pytest
import timm
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.losses.attention import attention_transfer
from classmates.methods import AT

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network(name: str = "resnet8") -> nn.Module:
    return timm.create_model(name, num_classes=4, in_chans=1)


def test_every_stage_of_both_takes_part() -> None:
    method = AT(network(), DATA, teacher=network("resnet14")).eval()
    output = method(BATCH)
    stages = output.outputs[-1].stages, method.teacher(BATCH.images).stages
    expected = sum(attention_transfer([s], [t]).item() for s, t in zip(*stages, strict=True))
    assert output.terms["attention"].item() == pytest.approx(expected, rel=1e-5)
    assert output.total.item() == pytest.approx(output.terms["ce"].item() + 1000 * expected, rel=1e-5)


def test_stages_are_matched_from_the_deepest() -> None:
    teacher = timm.create_model("resnet18_cifar", num_classes=4, in_chans=1)  # four stages
    method = AT(network(), DATA, teacher=teacher).eval()
    output = method(BATCH)
    expected = attention_transfer(output.outputs[-1].stages, method.teacher(BATCH.images).stages[1:])
    assert output.terms["attention"].item() == expected.item()


def test_equal_attention_costs_nothing() -> None:
    student = network().eval()
    assert AT(student, DATA, teacher=student).eval()(BATCH).terms["attention"].item() == 0
