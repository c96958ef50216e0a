"""What holds for every method with a teacher."""

import copy
from dataclasses import replace
from functools import partial
from typing import Unpack

import pytest
import timm
import torch
import yaml
from torch import nn

from classmates import methods
from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods.teacher_method import CachingTeacherOptions
from classmates.runs.student import StudentCard, load_student, save_student
from classmates.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:num_negatives")

DATA = DataSpec(4, torch.arange(32) // 8, (1, 8, 8))
BATCH = Batch(torch.randn(16, 1, 8, 8), DATA.labels[:16], torch.arange(16))  # two groups of 8 of a class, as CC needs


def network(name: str = "resnet8", num_classes: int = 4) -> nn.Module:
    return timm.create_model(name, num_classes=num_classes, in_chans=1)


def test_it_says_that_it_needs_a_teacher_and_how_to_give_one(teacher_method) -> None:
    with pytest.raises(
        UserError, match=rf"{teacher_method.__name__} needs a teacher: .*--method\.teacher RUN_FOLDER"
    ):
        teacher_method(network(), DATA)


def test_each_of_several_teachers_has_a_file_of_weights() -> None:
    names = {"teacher": ["resnet8", "resnet14", "resnet20"], "teacher_weights": ["a.pth", "b.pth"]}
    with pytest.raises(UserError, match="2 teacher_weights for 3 teachers: give a file for each"):
        methods.KD(network(), DATA, **names)
    with pytest.raises(UserError, match=r"teacher_weights 'a\.pth' are for a teacher: say with --method\.teacher"):
        methods.TfKD(network(), DATA, teacher_weights="a.pth")


def test_a_teachers_file_is_run_where_it_is_trusted(tmp_path) -> None:
    (tmp_path / "net.py").write_text("from classmates.models import resnet8 as Net\n")
    card = StudentCard(f"{tmp_path}/net.py:Net", tuple("abcd"), (1, 8, 8), (0.5,), (0.2,), 8, {"in_chans": 1})
    trained = network()
    save_student(tmp_path / "run", trained, card)
    make = partial(methods.KD, network(), replace(DATA, mean=(0.5,), std=(0.2,)), teacher=str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"built by the Python file '.*net\.py', which would be run.*--trust_code"):
        make()
    assert torch.equal(make(trust_code=True).teacher.network.fc.weight, trained.fc.weight)


@pytest.mark.parametrize("option", [{"teacher_image_size": 16}, {"trust_code": True}, {"cache": True}])
def test_what_is_said_of_a_teacher_that_is_not_there_is_refused(option) -> None:
    ((name, value),) = option.items()
    with pytest.raises(UserError, match=f"{name}={value} is for a teacher: say with --method.teacher which"):
        methods.TfKD(network(), DATA, **option)


def test_steps_that_look_the_teachers_outputs_up_are_of_another_kind() -> None:
    data = replace(DATA, labels=DATA.labels[:16], augmented=False)
    method = methods.KD(network(), data, teacher=network(), cache=True)
    before = method.phase
    method(BATCH)
    assert method.phase == before
    method.epoch = 1
    assert method.teacher.knows_all
    assert method.phase != before


def test_a_teacher_for_other_classes_teaches_what_is_not_logits(teacher_method) -> None:
    make = partial(teacher_method, network(), DATA, teacher=network(num_classes=7))
    if any(teacher_method(network(), DATA, teacher=network()).weights[name] for name in teacher_method.from_logits):
        with pytest.raises(UserError, match="'Backbone' tells 7 classes apart but the data have 4"):
            make()
        return
    with pytest.warns(
        UserWarning, match="'Backbone' tells 7 classes apart but the data have 4: it teaches by its emb"
    ):
        method = make()
    assert method.teacher(BATCH.images).logits.shape == (16, 0)
    output = method(BATCH)
    assert len(output.terms) > 1
    output.total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_student_learns_and_the_teacher_does_not(teacher_method) -> None:
    method = teacher_method(network(), DATA, teacher=network("resnet14")).train()
    teacher = method.teacher.network
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, weight_decay=0.1)
    losses = []
    for _ in range(6):
        output = method(BATCH)
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        losses.append(output.total.item())
    assert min(losses[-2:]) < losses[0]
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())


def test_the_teacher_is_in_no_checkpoint(teacher_method) -> None:
    torch.manual_seed(0)
    first, second = (teacher_method(network(), DATA, teacher=network("resnet14")) for _ in range(2))
    before = copy.deepcopy(second.teacher.network.state_dict())
    assert not any("teacher" in name for name in first.state_dict())
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in second.teacher.network.state_dict().items())
    assert torch.equal(second.student().fc.weight, first.student().fc.weight)
    assert set(first.student().state_dict()) == set(network().state_dict())


def test_the_teacher_runs_once_a_step_and_only_where_it_is_asked(teacher_method) -> None:
    method = teacher_method(network(), DATA, teacher=network("resnet14"))
    calls = []
    method.teacher.network.register_forward_hook(lambda *_: calls.append(1))
    method(BATCH)
    assert len(calls) == 1
    method.predictions(method.networks(BATCH.images))
    method.weights = {name: float(name == "ce") for name in method.weights}
    method(BATCH)
    assert len(calls) == 1


def test_student_and_teacher_may_differ_in_depth_and_width(teacher_method) -> None:
    data = DataSpec(4, DATA.labels, (3, 32, 32))
    student = timm.create_model("resnet20", num_classes=4)  # 3 stages, 16 to 64 channels, maps of 32 to 8
    teacher = timm.create_model("mobilenetv3_small_050", num_classes=4)  # 5 stages, maps of 16 to 1
    method = teacher_method(student, data, teacher=teacher)
    output = method(Batch(torch.randn(8, 3, 32, 32), data.labels[:8], torch.arange(8)))
    assert output.total.isfinite()


def test_a_finished_run_teaches_the_next_one_which_resumes(tmp_path) -> None:
    run = partial(
        train,
        data="digits",
        train_size=100,
        batch_size=20,
        accelerator="cpu",
        loggers=(),
        report=False,
        progress=False,
    )
    run(model="resnet14", epochs=1, out=tmp_path / "teacher")
    made = []

    class Watched(methods.KD):
        def __init__(self, network: nn.Module, data: DataSpec, **teacher: Unpack[CachingTeacherOptions]):
            super().__init__(network, data, **teacher)
            made.append((self, data))

    method = partial(Watched, teacher=str(tmp_path / "teacher"))
    run(model="resnet8", epochs=1, out=tmp_path / "student", method=method)
    run(model="resnet8", epochs=1, out=tmp_path / "student", method=method, resume=True)
    (teacher_method, data), _ = made
    card = load_student(tmp_path / "teacher")[1]
    assert (data.mean, data.std) == (card.mean, card.std)
    torch.testing.assert_close(teacher_method.teacher.scale, torch.ones(1, 1, 1))
    torch.testing.assert_close(teacher_method.teacher.shift, torch.zeros(1, 1, 1))
    [note] = teacher_method.notes
    assert note.endswith("on the test images of 'digits'")
    config = yaml.safe_load((tmp_path / "student" / "config.yaml").read_text())
    assert config["method"]["init_args"]["teacher"] == str(tmp_path / "teacher")
    checkpoint = torch.load(tmp_path / "student" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(name.startswith("method.networks.") for name in checkpoint["state_dict"])
