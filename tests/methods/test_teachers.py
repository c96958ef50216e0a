"""What can be named as a teacher, and what is told where it cannot teach."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import classmates.models  # noqa: F401
from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.methods.teachers import make_teacher
from classmates.runs.record import RunRecord
from classmates.runs.student import StudentCard, save_student

DATA = DataSpec(5, torch.arange(20) % 5, (3, 16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(name: str = "resnet8", num_classes: int = 5, in_chans: int = 3) -> nn.Module:
    """Some batches old, so that its BatchNorm knows other numbers than a fresh one's."""
    made = timm.create_model(name, num_classes=num_classes, in_chans=in_chans)
    with torch.no_grad():
        for _ in range(3):
            made(torch.randn(8, in_chans, 16, 16) * 2 + 1)
    return made


def as_run(folder, trained: nn.Module, **changes) -> None:
    card = {
        "model": "resnet8",
        "class_names": tuple("abcde"),
        "input_shape": (3, 16, 16),
        "mean": (0.1, 0.2, 0.3),
        "std": (0.5, 0.4, 0.2),
        "resize": 16,
        "model_args": {"in_chans": 3},
    }
    folder.mkdir()
    save_student(folder, trained, StudentCard(**{**card, **changes}))


@torch.no_grad()
def told(trained: nn.Module, images: Tensor = IMAGES) -> Tensor:
    return copy.deepcopy(trained).eval()(images)


def test_a_module_teaches_as_it_is_and_stays_as_it_is() -> None:
    own = network()
    before = copy.deepcopy(own.state_dict())
    teacher = make_teacher(own, DATA)
    torch.testing.assert_close(teacher(IMAGES).logits, told(own))
    assert own.training  # a copy teaches: this one is still its owner's
    assert all(parameter.requires_grad for parameter in own.parameters())
    own.fc.weight.data.zero_()
    assert not torch.equal(teacher(IMAGES).logits, told(own))
    assert torch.equal(teacher.network.state_dict()["fc.weight"], before["fc.weight"])


def test_a_run_folder_teaches_with_its_own_normalisation(tmp_path) -> None:
    trained = network()
    as_run(tmp_path / "run", trained)
    teacher = make_teacher(str(tmp_path / "run"), DATA)
    pixels = torch.rand(4, 3, 16, 16)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    seen = normalised((0.1, 0.2, 0.3), (0.5, 0.4, 0.2))
    torch.testing.assert_close(
        teacher(normalised(DATA.mean, DATA.std)).logits, told(trained, seen), rtol=1e-4, atol=1e-4
    )
    assert teacher.notes == []


def test_a_run_folder_says_by_its_classes_what_its_logits_are_of(tmp_path) -> None:
    own = network()
    as_run(tmp_path / "run", own, class_names=tuple("bacde"), mean=DATA.mean, std=DATA.std)
    teacher = make_teacher(tmp_path / "run", replace(DATA, class_names=tuple("abcde")))
    torch.testing.assert_close(teacher(IMAGES).logits, told(own)[:, [1, 0, 2, 3, 4]])
    with pytest.raises(UserError, match=r"run' was trained on other classes: it does not know 'f'"):
        make_teacher(tmp_path / "run", replace(DATA, class_names=tuple("abcdf")))


def test_an_unknown_normalisation_of_the_data_is_noted(tmp_path) -> None:
    trained = network()
    as_run(tmp_path / "run", trained)
    teacher = make_teacher(tmp_path / "run", DataSpec(5, DATA.labels, (3, 16, 16)))
    torch.testing.assert_close(teacher(IMAGES).logits, told(trained))
    assert len(teacher.notes) == 1
    assert "(0.1, 0.2, 0.3)" in teacher.notes[0]


def test_a_name_with_a_file_of_weights(tmp_path) -> None:
    trained = network()
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    teacher = make_teacher("resnet8", DATA, weights=tmp_path / "weights.pth")
    torch.testing.assert_close(teacher(IMAGES).logits, told(trained))


def test_a_class_in_a_file_may_bring_its_own_weights(tmp_path) -> None:
    torch.save(network().state_dict(), tmp_path / "weights.pth")
    (tmp_path / "mine.py").write_text(
        "import timm, torch, classmates.models\n"
        "def mine(num_classes):\n"
        "    made = timm.create_model('resnet8', num_classes=num_classes)\n"
        f"    made.load_state_dict(torch.load({str(tmp_path / 'weights.pth')!r}, weights_only=True))\n"
        "    return made\n"
    )
    saved = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert torch.equal(make_teacher(f"{tmp_path}/mine.py:mine", DATA).network.fc.weight, saved["fc.weight"])


def test_a_model_of_one_size_sees_images_at_its_own(tmp_path) -> None:
    trained = timm.create_model("test_vit", num_classes=5)  # built for 160x160 pixels, and takes no others
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    teacher = make_teacher("test_vit", DATA, weights=tmp_path / "weights.pth")
    seen = F.interpolate(IMAGES, (160, 160), mode="bicubic", antialias=True)
    torch.testing.assert_close(teacher(IMAGES).logits, told(trained, seen))
    assert teacher.notes == ["teacher 'test_vit' gets the images at 160x160 pixels; the student has them at 16x16"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: network(num_classes=7), "teacher 'Backbone' tells 7 classes apart but the data have 5"),
        (lambda: network(in_chans=1), "teacher 'Backbone' is for images of 1 channel; these have 3: train one on"),
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=5), "teacher 'VisionTransformer': .*16x16"),
        (lambda: "resnet8", "teacher 'resnet8' is the name of a model without published weights.*teacher_weights"),
        (lambda: "resnet18", "teacher 'resnet18' tells 1000 classes apart but the data have 5"),
        (lambda: "resnet9", "teacher 'resnet9' is neither the folder of a finished run nor .*'resnet8'"),
        (
            lambda: "runs/missing",
            "'runs/missing' is neither .* model: `classmates train --method Baseline --out runs/missing ",
        ),
    ],
)
def test_what_cannot_teach_is_told(source, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_teacher(source(), DATA)


def test_runs_that_cannot_teach_are_told(tmp_path) -> None:
    as_run(tmp_path / "seven", network(num_classes=7), class_names=tuple("abcdefg"))
    with pytest.raises(UserError, match=r"teacher '.*seven' tells 7 classes apart but the data have 5"):
        make_teacher(tmp_path / "seven", DATA)
    as_run(tmp_path / "unnamed", network(), model=None)
    with pytest.raises(UserError, match="trained from a network object"):
        make_teacher(tmp_path / "unnamed", DATA)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no trained student in .*student\.json is missing"):
        make_teacher(tmp_path / "empty", DATA)


def test_weights_that_cannot_teach_are_told(tmp_path) -> None:
    torch.save(network(num_classes=7).state_dict(), tmp_path / "seven.pth")
    with pytest.raises(UserError, match=r"seven\.pth' as they are: the classifier .* 7 classes; the data have 5"):
        make_teacher("resnet8", DATA, weights=tmp_path / "seven.pth")
    torch.save(network("resnet14").state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth' does not fit the network"):
        make_teacher("resnet8", DATA, weights=tmp_path / "other.pth")
    with pytest.raises(UserError, match="teacher_weights: there is no file"):
        make_teacher("resnet8", DATA, weights=tmp_path / "none.pth")
    with pytest.raises(UserError, match="are for a teacher that is the name of a model"):
        make_teacher(network(), DATA, weights=tmp_path / "seven.pth")


def test_published_weights_are_asked_for_with_their_normalisation(monkeypatch) -> None:
    """Without the download: what timm would have loaded is a network of its own making."""
    made = timm.create_model("resnet18", num_classes=1000)
    asked = []

    def build(name, num_classes, in_chans, pretrained):
        asked.append((name, num_classes, in_chans, pretrained))
        return made

    monkeypatch.setattr("classmates.methods.teachers.build_model", build)
    data = DataSpec(1000, torch.arange(20), (3, 32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    teacher = make_teacher("resnet18", data)
    assert asked == [("resnet18", 1000, 3, True)]
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = (pixels - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(teacher(pixels).logits, told(made, seen), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="is for images of 3 channels; these have 1"):
        make_teacher("resnet18", DataSpec(1000, torch.arange(20), (1, 32, 32)))


def test_a_run_folder_says_how_good_its_student_is(tmp_path, finished_run) -> None:
    record = RunRecord.from_json((finished_run / "result.json").read_text())
    as_run(tmp_path / "run", network())
    for text, said in {
        record.to_json(): [f"top-1 {record.headline().value:.2%} on the test images of 'digits'"],
        replace(record, test={}).to_json(): [],
        "{": [],
    }.items():
        (tmp_path / "run" / "result.json").write_text(text)
        notes = [note for note in make_teacher(tmp_path / "run", DATA).notes if "on the test images" in note]
        assert [note.partition(" has ")[2] for note in notes] == said
