import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from classmates.errors import UserError
from classmates.methods import TfKD
from classmates.methods.tfkd import virtual_teacher


def test_virtual_teacher_values_at_100_classes():
    labels = torch.tensor([7, 0])
    teacher = virtual_teacher(labels, 100)
    torch.testing.assert_close(teacher.sum(1), torch.ones(2))
    assert teacher[0, 7].item() == pytest.approx(0.99)
    assert teacher[0, 8].item() == pytest.approx(0.01 / 99)
    softened = (teacher / 20).softmax(-1)
    assert softened[0, 7].item() == pytest.approx(0.0105021, abs=5e-8)
    assert softened[1, 7].item() == pytest.approx(0.0099949, abs=5e-8)


def kl_by_hand(teacher_rows, student_rows, teacher_temperature, student_temperature):
    total = 0.0
    for teacher, student in zip(teacher_rows.tolist(), student_rows.tolist(), strict=True):
        p = [math.exp(value / teacher_temperature) for value in teacher]
        q = [math.exp(value / student_temperature) for value in student]
        total += sum(a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(q))) for a, b in zip(p, q, strict=True))
    return total / len(teacher_rows)


@pytest.mark.parametrize(("temper_student", "student_temperature"), [(False, 1.0), (True, 20.0)])
def test_against_the_virtual_teacher(tiny_network, tiny_data, tiny_batch, temper_student, student_temperature):
    method = TfKD(tiny_network(), tiny_data, alpha=0.3, multiplier=2.0, temper_student=temper_student)
    output = method(tiny_batch)
    logits = output.outputs[-1].logits.detach()
    teacher = virtual_teacher(tiny_batch.labels, 4)
    kl = kl_by_hand(teacher, logits, 20.0, student_temperature)
    assert output.terms["distillation"].item() == pytest.approx(kl, rel=1e-3, abs=1e-7)
    expected = 0.7 * F.cross_entropy(logits, tiny_batch.labels).item() + 0.6 * kl
    assert output.total.item() == pytest.approx(expected, rel=1e-5)


def test_released_multiplier_is_ours_times_the_classes():
    """100 · element mean = 1 · batchmean at 100 classes, as released for ResNet-18."""
    logits, labels = torch.randn(5, 100), torch.arange(5)
    teacher = (virtual_teacher(labels, 100) / 20).softmax(-1)
    released = 100 * F.kl_div(logits.log_softmax(-1), teacher, reduction="none").mean()
    assert released.item() == pytest.approx(
        kl_by_hand(virtual_teacher(labels, 100), logits, 20.0, 1.0), rel=1e-4, abs=1e-5
    )


def test_against_a_trained_copy(tiny_network, tiny_data, tiny_batch):
    copy = tiny_network(seed=1)
    method = TfKD(tiny_network(), tiny_data, teacher=copy)
    assert method.weights == pytest.approx({"ce": 0.05, "distillation": 0.95 * 0.5 * 36})
    output = method(tiny_batch)
    with torch.no_grad():
        teacher = copy.eval()(tiny_batch.images)
    kl = kl_by_hand(teacher, output.outputs[-1].logits.detach(), 6.0, 6.0)
    assert output.terms["distillation"].item() == pytest.approx(kl, rel=1e-3, abs=1e-6)
    output.total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert all(parameter.grad is None for parameter in copy.parameters())


def test_the_copy_stays_as_it_is_and_out_of_the_checkpoint(tiny_network, tiny_data, tiny_batch):
    copy = tiny_network(seed=1)
    method = TfKD(tiny_network(), tiny_data, teacher=copy).train()
    before = {name: value.clone() for name, value in method.teacher.network.state_dict().items()}
    method(tiny_batch)
    after = method.teacher.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert set(method.state_dict()) == set(TfKD(tiny_network(), tiny_data).state_dict())


def test_defaults_depend_on_the_teacher_and_give_way_to_what_is_said(tiny_network, tiny_data):
    virtual = TfKD(tiny_network(), tiny_data)
    assert (virtual.weights, virtual.temperature) == ({"ce": 0.9, "distillation": 0.1}, 20.0)
    said = TfKD(tiny_network(), tiny_data, teacher=tiny_network(), alpha=0.5, temperature=2.0, multiplier=0.1)
    assert said.weights == pytest.approx({"ce": 0.5, "distillation": 0.05 * 4})
    assert said.temperature == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, "alpha=1.1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"multiplier": -1.0}, "multiplier=-1.0"),
        ({"correct": 0.25}, "correct=0.25: the true class's probability lies between that of a guess, 1/4, and 1"),
        ({"teacher_weights": "a.safetensors"}, "teacher_weights 'a.safetensors' are for a teacher"),
    ],
)
def test_wrong_options_are_named(tiny_network, tiny_data, options, message):
    with pytest.raises(UserError, match=message):
        TfKD(tiny_network(), tiny_data, **options)


@pytest.mark.parametrize("option", [{"correct": 0.9}, {"temper_student": True}])
def test_options_of_the_virtual_teacher_are_refused_beside_a_trained_copy(tiny_network, tiny_data, option):
    with pytest.raises(UserError, match="correct and temper_student are of the virtual teacher"):
        TfKD(tiny_network(), tiny_data, teacher=tiny_network(), **option)


def test_a_trained_copy_is_asked_once_for_each_image_where_they_never_change(tiny_network, tiny_data, tiny_batch):
    data = replace(tiny_data, labels=tiny_batch.labels, augmented=False)
    batch = tiny_batch._replace(indices=torch.arange(len(tiny_batch.labels)))
    method = TfKD(tiny_network(), data, teacher=tiny_network(seed=1), cache=True)
    asked = method(batch).total
    method.epoch = 1
    assert method.teacher.knows_all
    torch.testing.assert_close(method(batch).total, asked)
