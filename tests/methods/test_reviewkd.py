import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.losses.review import hierarchical_context
from classmates.methods import ReviewKD

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network(name: str = "resnet8") -> nn.Module:
    return timm.create_model(name, num_classes=4, in_chans=1)


def test_the_total_is_the_formula_and_warms_up() -> None:
    method = ReviewKD(network(), DATA, teacher=network("resnet14"), review=0.6, warmup=4).eval()
    method.epochs = 10
    for epoch, factor in {0: 0.25, 3: 1.0, 9: 1.0}.items():
        method.epoch = epoch
        output = method(BATCH)
        student, teacher = output.outputs[-1], method.teacher(BATCH.images)
        fused = method.fusion([*student.stages, student.embedding[:, :, None, None]])
        taught = [*teacher.stages, teacher.embedding[:, :, None, None]]
        assert len(fused) == 4
        losses = [hierarchical_context(*pair) for pair in zip(fused, taught, strict=True)]
        expected = F.cross_entropy(student.logits, BATCH.labels) + factor * 0.6 * sum(losses)
        torch.testing.assert_close(output.total, expected)


@pytest.mark.parametrize(("student", "teacher"), [("resnet8", "resnet18_cifar"), ("resnet18_cifar", "resnet8")])
def test_stages_are_matched_from_the_deepest(student: str, teacher: str) -> None:
    method = ReviewKD(network(student), DATA, teacher=network(teacher)).eval()
    assert method.depth == len(method.fusion.fusions) == 4  # the networks have three stages and four
    output = method(BATCH)
    fused = method.fusion([*output.outputs[-1].stages[-3:], output.outputs[-1].embedding[:, :, None, None]])
    taught = method.teacher(BATCH.images)
    assert [one.shape for one in fused[:-1]] == [one.shape for one in taught.stages[-3:]]
    losses = [hierarchical_context(*pair) for pair in zip(fused, taught.stages[-3:], strict=False)]
    last = hierarchical_context(fused[-1], taught.embedding[:, :, None, None])
    torch.testing.assert_close(output.terms["review"], sum(losses) + last)


def test_all_of_the_student_learns_from_it() -> None:
    method = ReviewKD(network(), DATA, teacher=network("resnet14"))
    method(BATCH).terms["review"].backward()
    untaught = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert untaught == {f"networks.networks.0.fc.{leaf}" for leaf in ("weight", "bias")}


def test_released_values_are_the_defaults() -> None:
    method = ReviewKD(network(), DATA, teacher=network())
    assert method.weights == {"ce": 1.0, "review": 1.0}
    assert method.weight("review", epoch=0) == pytest.approx(1 / 20)
    assert method.check_length(10) == ["warmup=20 epochs, but training has 10: it ends before that is over"]
    with pytest.raises(UserError, match="warmup=-1"):
        ReviewKD(network(), DATA, teacher=network(), warmup=-1)
