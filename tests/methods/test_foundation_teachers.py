"""Teachers that see images at another size, tell other classes apart or none, and several of them."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec
from classmates.errors import UserError
from classmates.methods import CRD, DIST, KD, RKD, FitNet, TfKD
from classmates.methods.teachers import make_teacher
from classmates.models import resnet8
from classmates.runs.student import StudentCard, save_student

DATA = DataSpec(5, torch.arange(20) % 5, (3, 16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
BATCH = Batch(torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)), DATA.labels[:8], torch.arange(8))
DINO = "vit_small_patch16_224.dino"  # timm's name for published weights without a classifier
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = {"depth": 4, "embed_dim": 12, "num_heads": 2}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return resnet8(num_classes=5)


def vit() -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model(model_name=DINO, num_classes=0, img_size=32, **SMALL)


@pytest.fixture
def dino_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights for images of 32 pixels under DINO's names, without a classifier; and every such network is small."""
    torch.save(vit().state_dict(), tmp_path / "dino.pth")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda **options: create(**{**options, **SMALL}))
    return tmp_path / "dino.pth"


def test_a_foundation_model_from_a_file_teaches_by_its_embedding(dino_file: Path) -> None:
    with pytest.warns(UserWarning, match="has no classifier but the data have 5") as warned:
        method = RKD(network(), DATA, teacher=DINO, teacher_weights=str(dino_file), teacher_image_size=32)
    said = " ".join(str(one.message) for one in warned)
    assert "gets the images at 32x32 pixels; the student has them at 16x16" in said
    assert f"mean {IMAGENET_MEAN} and std {IMAGENET_STD}" in said
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = BATCH.images * torch.tensor(DATA.std).view(-1, 1, 1) + torch.tensor(DATA.mean).view(-1, 1, 1)
    larger = F.interpolate((pixels - mean) / std, (32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = vit().eval()(larger)  # without a classifier, what enters it is what comes out
    torch.testing.assert_close(method.teacher.outputs(BATCH).embedding, expected, rtol=1e-4, atol=1e-4)
    method(BATCH).total.backward()


def test_logits_of_a_foundation_model_are_refused_with_the_reason(dino_file: Path) -> None:
    options = {"teacher": DINO, "teacher_weights": str(dino_file), "teacher_image_size": 32}
    with pytest.raises(UserError, match=r"the classifier 'head' is new: the file has none; the data have 5 classes"):
        KD(network(), DATA, **options)
    with pytest.raises(UserError, match=r"'VisionTransformer' has no classifier but the data have 5: .*embeddings"):
        DIST(network(), DATA, teacher=vit(), teacher_image_size=32)
    with pytest.raises(UserError, match=f"'{DINO}' has no classifier but the data have 5"):
        KD(network(), DATA, teacher=DINO)  # before anything is downloaded
    with pytest.raises(UserError, match="has none"):
        FitNet(network(), DATA, hint_epochs=2, **options)


@pytest.mark.filterwarnings("ignore")
def test_its_outputs_can_be_cached(dino_file: Path) -> None:
    data = DataSpec(5, torch.arange(8) % 5, (3, 16, 16), augmented=False)
    options = {"teacher": DINO, "teacher_weights": str(dino_file), "teacher_image_size": 32}
    method = CRD(network(), data, cache=True, **options)
    asked = []
    method.teacher.network.register_forward_hook(lambda *_: asked.append(1))
    for method.epoch in range(3):
        method(BATCH)
    assert len(asked) == 1
    assert method.teacher.logits.shape == (8, 0)
    assert method.teacher.embeddings.shape == (8, 12)


def test_a_module_without_a_classifier_stays_its_owners() -> None:
    own = vit()
    before = copy.deepcopy(own.state_dict())
    teacher = make_teacher(own, DATA, image_size=32, logits=False)
    assert teacher.architecture.embedding == 12
    assert [stage.shape for stage in teacher.architecture.stages] == [(12, 2, 2)] * 4
    assert own.state_dict().keys() == before.keys()
    assert own.num_classes == 0


def test_weights_for_larger_images_are_resampled_with_a_note(dino_file: Path) -> None:
    teacher = make_teacher(DINO, DATA, weights=dino_file, image_size=64, logits=False)
    assert any("'pos_embed' was resampled from (1, 5, 12) to (1, 17, 12)" in note for note in teacher.notes)
    assert teacher.outputs(BATCH).embedding.shape == (8, 12)


def test_a_finished_run_sees_images_at_the_size_it_was_trained_at(tmp_path: Path) -> None:
    trained = network()
    card = {"model": "resnet8", "class_names": tuple("abcde"), "input_shape": (3, 24, 24), "resize": 24}
    card |= {"mean": DATA.mean, "std": DATA.std, "model_args": {"in_chans": 3}}
    (tmp_path / "run").mkdir()
    save_student(tmp_path / "run", trained, StudentCard(**card))
    teacher = make_teacher(tmp_path / "run", DATA)
    larger = F.interpolate(BATCH.images, (24, 24), mode="bicubic", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(teacher(BATCH.images).logits, trained.eval()(larger), rtol=1e-4, atol=1e-5)
    (note,) = teacher.notes
    assert "gets the images at 24x24 pixels; the student has them at 16x16" in note
    as_the_student = make_teacher(tmp_path / "run", DATA, image_size=16)
    assert as_the_student.notes == []
    with pytest.raises(UserError, match="teacher_image_size=0"):
        make_teacher(tmp_path / "run", DATA, image_size=0)


@pytest.mark.parametrize("taught", [KD, DIST, TfKD])
def test_of_several_teachers_the_mean_probability_is_learnt(taught: type) -> None:
    both = [network(seed) for seed in (1, 2)]
    method = taught(network(), DATA, teacher=both)
    with torch.no_grad():
        logits = [one.eval()(BATCH.images).double() for one in copy.deepcopy(both)]
    mean = sum((one / 3.0).softmax(1) for one in logits) / 2
    found = method.teacher_logits(BATCH, 3.0)
    torch.testing.assert_close((found.double() / 3.0).softmax(1), mean, rtol=1e-4, atol=1e-6)
    method(BATCH).total.backward()


def test_several_teachers_are_refused_where_there_is_no_mean() -> None:
    both = [network(1), network(2)]
    with pytest.raises(UserError, match=r"2 teachers: RKD .* one teacher's .* \(distance, angle\).*give one"):
        RKD(network(), DATA, teacher=both)
    with pytest.raises(UserError, match="1 teacher_weights for 2 teachers: give a file for each"):
        KD(network(), DATA, teacher=["resnet8", "resnet8"], teacher_weights="a.pth")
    with pytest.raises(UserError, match="KD needs a teacher"):
        KD(network(), DATA, teacher=[])
