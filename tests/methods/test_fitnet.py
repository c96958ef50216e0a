from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import FitNet
from classmates.methods.fitnet import hint_loss
from classmates.tasks.few_shot import FewShot

DATA = DataSpec(4, torch.arange(32) % 4, (1, 8, 8))
BATCH = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 4, torch.arange(8))


def network(name: str = "resnet8") -> nn.Module:
    return timm.create_model(name, num_classes=4, in_chans=1)


def test_hint_is_the_mean_over_all_elements() -> None:
    student, teacher = torch.zeros(2, 1, 2, 2, requires_grad=True), torch.full((2, 1, 2, 2), 3.0, requires_grad=True)
    loss = hint_loss(student, teacher)
    assert loss.item() == 9
    loss.backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, torch.full((2, 1, 2, 2), -6 / 8))


def test_the_middle_stages_meet() -> None:
    method = FitNet(network(), DATA, teacher=network("resnet14")).eval()
    output = method(BATCH)
    assert set(output.terms) == {"ce", "hint"}
    guided = method.regressor(output.outputs[-1].stages[1])
    taught = method.teacher(BATCH.images).stages[1]
    assert guided.shape == taught.shape == (8, 32, 4, 4)
    assert output.terms["hint"].item() == pytest.approx((guided - taught).square().mean().item(), rel=1e-5)
    expected = output.terms["ce"] + 100 * output.terms["hint"]
    assert output.total.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("stage", "guided"), [(None, -2), (0, -3), (2, -1), (-1, -1), (-3, -3)])
def test_stages_are_matched_from_the_end(stage: int | None, guided: int) -> None:
    method = FitNet(network(), DATA, teacher=network("resnet14"), stage=stage)
    assert (method.student_stage, method.teacher_stage) == (guided, guided)


def test_a_teacher_with_more_stages_is_asked_as_far_from_its_end() -> None:
    teacher = timm.create_model("resnet18_cifar", num_classes=4, in_chans=1)  # four stages, maps of 8, 4, 2 and 1
    method = FitNet(network(), DATA, teacher=teacher)
    assert method.teacher.architecture.stages[method.teacher_stage].shape == (256, 2, 2)
    few = FitNet(teacher, DATA, teacher=network(), stage=0)  # the teacher has no fourth from its end: its first
    assert few.teacher.architecture.stages[few.teacher_stage].shape == (16, 8, 8)


def test_two_stages_train_first_the_lower_half_and_then_all_but_the_regressor() -> None:
    method = FitNet(network(), DATA, teacher=network("resnet14"), hint_epochs=2)
    method.epochs = 6

    def learning(epoch: int) -> set[str]:
        method.epoch = epoch
        method.zero_grad()
        method(BATCH).total.backward()
        with_gradients = (name for name, parameter in method.named_parameters() if parameter.grad is not None)
        return {name.removeprefix("networks.networks.0.").split(".")[0] for name in with_gradients}

    assert learning(0) == learning(1) == {"stem", "layer1", "layer2", "regressor"}
    assert learning(2) == {"stem", "layer1", "layer2", "layer3", "fc"}


def test_in_the_first_stage_no_term_of_the_task_counts() -> None:
    data = replace(DATA, task=FewShot(way=2, shot=1, queries=1))
    method = FitNet(network(), data, teacher=network(), hint_epochs=2)
    method.epochs = 6
    counting = []
    for method.epoch in (0, 2):
        counting.append({name for name in method.weights if method.weight(name)})
    assert counting == [{"hint"}, {"episode", "ce", "distillation"}]


def test_the_second_stage_distils_less_and_less() -> None:
    method = FitNet(network(), DATA, teacher=network(), hint_epochs=2)
    method.epochs = 6
    factors = []
    for method.epoch in range(6):
        output = method(BATCH)
        factors.append(method.weight("distillation"))
        assert set(output.terms) == ({"hint"} if method.epoch < 2 else {"ce", "distillation"})
    assert factors == [0, 0, 4, 3, 2, 1]
    z, t = output.outputs[-1].logits / 3, method.teacher(BATCH.images).logits / 3
    kl = (t.softmax(1) * (t.log_softmax(1) - z.log_softmax(1))).sum(1).mean()
    assert output.terms["distillation"].item() == pytest.approx(kl.item(), rel=1e-4)


def test_a_second_stage_of_one_epoch_distils_as_at_its_start() -> None:
    method = FitNet(network(), DATA, teacher=network(), hint_epochs=2)
    method.epochs = 3
    factors = []
    for method.epoch in range(3):
        factors.append(method.weight("distillation"))
    assert factors == [0, 0, 4]


def test_wrong_options_are_told() -> None:
    with pytest.raises(UserError, match=r"stage=3: the student has 3, from 0 \(layer1\) to 2 \(layer3\)"):
        FitNet(network(), DATA, teacher=network(), stage=3)
    with pytest.raises(UserError, match="hint_epochs=-1"):
        FitNet(network(), DATA, teacher=network(), hint_epochs=-1)
    with pytest.raises(UserError, match="hint=0 leaves nothing to learn in hint_epochs=2"):
        FitNet(network(), DATA, teacher=network(), hint=0, hint_epochs=2)
    method = FitNet(network(), DATA, teacher=network(), hint_epochs=5)
    method.epochs = 5
    with pytest.raises(UserError, match="hint_epochs=5 of 5 epochs"):
        method(BATCH)
    with pytest.raises(UserError, match="hint_epochs=5 of 5 epochs"):
        method.check_length(5)
    assert method.check_length(6) == []
