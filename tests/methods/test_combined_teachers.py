"""Teachers from which several combined methods learn: one of a kind, which runs once a step."""

import pytest
import timm
import torch
from torch import nn

import classmates.models  # noqa: F401  (registers resnet8)
from classmates.contracts import Batch, DataSpec
from classmates.methods.combined import Combined, make
from classmates.methods.spec import MethodSpec
from classmates.networks.building.teacher import Teacher

LABELS = torch.arange(12) % 5
DATA = DataSpec(5, LABELS, (1, 8, 8))


class Counting(nn.Module):
    """A network that counts the images it runs on, one count for all copies of it."""

    def __init__(self):
        super().__init__()
        self.network = timm.create_model("resnet8", num_classes=5, in_chans=1)
        self.ran = []

    def __deepcopy__(self, memo):
        return self  # what a teacher's own copy runs on counts too

    def forward(self, images):
        self.ran.append(len(images))
        return self.network(images)


def combined(*methods):
    torch.manual_seed(0)
    return Combined(timm.create_model("resnet8", num_classes=5, in_chans=1), DATA, methods=methods)


def with_teachers(names, teachers):
    return combined(*(MethodSpec(name, {"teacher": one}) for name, one in zip(names, teachers, strict=True)))


def test_a_teacher_of_several_methods_runs_once_a_step_on_the_images_of_that_step():
    teacher, names = Counting(), ("KD", "RKD", "SP", "AT")
    method = with_teachers(names, [teacher] * 4)
    images = torch.randn(12, 1, 8, 8)
    for _ in range(2):
        images.normal_()  # the next step's images in the same tensor, as a captured step has them
        batch = Batch(images, LABELS, torch.arange(12))
        teacher.ran.clear()
        outputs, terms, _ = method(batch)
        assert teacher.ran == [12]
        for name in names[1:]:
            alone = make({"class_path": name, "init_args": {"teacher": teacher}}, method.networks.student, DATA)
            alone.load_state_dict(method.parts[name].state_dict(), strict=False)
            for term, value in alone.terms(outputs, batch).items():
                torch.testing.assert_close(terms[f"{name}/{term}"], value(), msg=f"{name}/{term}")
    assert all(one._latest is None for one in method.modules() if isinstance(one, Teacher))


def test_a_step_that_came_to_no_end_leaves_nothing_of_its_teacher_behind():
    method = with_teachers(("KD", "RKD"), [Counting()] * 2)
    batch = Batch(torch.randn(12, 1, 8, 8), LABELS, torch.arange(12))
    expected = method(batch).total
    batch.images.neg_()
    method.weights["RKD/distance"] = "no number"
    with pytest.raises(TypeError):
        method(batch)
    batch.images.neg_()
    method.weights["RKD/distance"] = 25.0
    torch.testing.assert_close(method(batch).total, expected)


def test_only_teachers_that_are_alike_are_shared():
    first, second = Counting(), Counting()
    kd = MethodSpec("KD", {"teacher": first})
    for options, shared in [
        ({"teacher": first}, True),
        ({"teacher": second}, False),
        ({"teacher": first, "teacher_image_size": 16}, False),
        ({"teacher": [first]}, True),
    ]:
        method = combined(kd, MethodSpec("RKD", options))
        assert (method.parts["KD"].teacher is method.parts["RKD"].teacher) == shared, options
