"""A whole run: what it leaves, and what it refuses before it starts."""

import json
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import load
from classmates.errors import NonFiniteLoss, UserError
from classmates.evaluation.by_image import picture
from classmates.evaluation.exits import score_exits, tune_thresholds
from classmates.methods import CORSD, CSKD, KD, MCL, Baseline, DeepSupervision
from classmates.methods.base import Method
from classmates.networks.peers.peers import Peers
from classmates.runs.exits import load_exits
from classmates.runs.folder import read_record
from classmates.runs.record import EarlyExits
from classmates.runs.student import load_student
from classmates.tasks.metrics import score
from classmates.training.train import train
from tests.training.conftest import SMALL


def test_a_run_leaves_everything_it_says(small_train, small_mcl, tmp_path):
    result = small_train(method=small_mcl, out=tmp_path / "run", epochs=2, report=True)
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left == {
        "config.yaml",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "student.safetensors",
        "student.json",
        "evaluation.npz",
        "result.json",
        "report.html",
        "README.md",
    }
    record = read_record(tmp_path / "run" / "result.json")
    assert record == result.record
    assert set(record.test) == {"student", "peer1", "ensemble"}
    assert record.test == result.test
    assert (record.training.epochs, record.training.steps, record.train_images) == (2, 8, 120)

    arrays = np.load(tmp_path / "run" / "evaluation.npz", allow_pickle=False)
    recomputed = score(torch.from_numpy(arrays["logits/student"]), torch.from_numpy(arrays["labels"]))
    assert recomputed == result.test["student"]
    assert record.headline().count == 797

    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]
    weighted = sum(metrics[f"train/{term}/weighted"] for term in ("ce", "distillation", "contrast"))
    np.testing.assert_allclose(weighted, metrics["train/total"], rtol=1e-5)
    last = record.validation.last.scores["student"]
    assert metrics["val/student/top1"].iloc[-1] == pytest.approx(last["top1"].value)


def test_exits_are_tuned_on_validation_and_scored_on_test(small_train, tmp_path):
    learning = {"train_size": 240, "batch_size": 12, "epochs": 4}  # as much as makes a shallow exit worth asking
    result = small_train(method=DeepSupervision, out=tmp_path / "run", **learning)
    found, costs = result.record.exits, result.method.exit_costs()
    arrays = np.load(tmp_path / "run" / "evaluation.npz", allow_pickle=False)
    names = [*(f"exit{number}" for number in range(1, len(costs))), "student"]
    logits = torch.stack([torch.from_numpy(arrays[f"logits/{name}"]) for name in names])
    again = score_exits(logits, torch.from_numpy(arrays["labels"]), costs, found.thresholds)
    assert found == EarlyExits(found.thresholds, *again)
    exits, images = load_exits(tmp_path / "run")[0], load("digits", train_size=240)
    tuned = []
    for part in (images.val, images.test):
        with torch.no_grad():
            each = torch.cat([exits(batch.images) for batch in eval_loader(images, part, 100)], dim=1)
        tuned.append(tune_thresholds(each, part.labels, costs))
    assert found.thresholds == tuned[0] != tuned[1]
    assert f"{found.accuracy:.2%} at {found.cost:.0%} of the student's compute" in str(result)
    assert small_train(out=tmp_path / "plain", epochs=1).record.exits is None
    blind = small_train(method=DeepSupervision, out=tmp_path / "blind", epochs=1, val_fraction=0)
    assert blind.record.exits is None  # nothing to tune on but the test set


def test_a_teacher_caches_only_where_images_stay_the_same(small_train, tmp_path):
    teacher = timm.create_model("resnet8", num_classes=10, in_chans=1)
    method = partial(KD, teacher=teacher, cache=True)
    with pytest.raises(UserError, match="augmented"):
        small_train(method=method, out=tmp_path / "varied")
    plain = Augmentation(crop_padding=0, flip=False)
    result = small_train(method=method, out=tmp_path / "same", epochs=2, augmentation=plain)
    assert result.method.teacher.knows_all


def test_the_student_is_the_plain_network(small_train, small_mcl, tmp_path):
    result = small_train(method=small_mcl, out=tmp_path / "run", epochs=1)
    plain = timm.create_model("resnet8", num_classes=10, in_chans=1)
    assert result.student.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(load_file(tmp_path / "run" / "student.safetensors"))
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(plain.eval()(images), result.student(images))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in result.student.modules())


def test_same_seed_same_run_other_seed_another(small_train, tmp_path):
    runs = [
        small_train(out=tmp_path / str(number), seed=seed, epochs=2).student.state_dict()["fc.weight"]
        for number, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """What a run returns whose epochs are one batch."""
    return train(**SMALL | {"out": tmp_path_factory.mktemp("one") / "step", "epochs": 2, "batch_size": 120})


@pytest.mark.parametrize("batch_size", [121, 2**40, 10**20])
def test_a_batch_larger_than_an_epoch_is_told(batch_size, one_step, small_train, tmp_path):
    many = small_train(out=tmp_path / "run", epochs=2, batch_size=batch_size)
    said = f"batch_size {batch_size}, but an epoch has 120 images: they are one step"
    assert said in many.record.notes
    assert not any("an epoch has" in text for text in one_step.record.notes)
    assert many.record.training.steps == 2
    assert torch.equal(one_step.student.state_dict()["fc.weight"], many.student.state_dict()["fc.weight"])


@pytest.mark.parametrize("recompute", ["shared", "all"])
def test_recomputing_changes_no_result(recompute, small_train, small_mcl, tmp_path):
    run = partial(small_train, method=partial(small_mcl, share=-1), epochs=1)
    expected = run(out=tmp_path / "kept").student
    found = run(out=tmp_path / "again", recompute=recompute).student
    for (name, one), other in zip(expected.state_dict().items(), found.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, msg=name)
    assert all("forward" not in vars(module) for module in found.modules())


def test_without_a_validation_split(small_train, tmp_path):
    result = small_train(out=tmp_path / "run", epochs=1, val_fraction=0)
    assert result.record.validation is None
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


def test_own_network_and_own_schedule(small_train, tmp_path):
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    result = small_train(
        model=network,
        method=CORSD,
        out=tmp_path / "run",
        epochs=2,
        optimizer="AdamW",
        optimizer_args={"weight_decay": 0.01},
        schedule="OneCycleLR",
        schedule_args={"pct_start": 0.5},
        lr=0.01,
    )
    assert result.student is network
    assert json.loads((tmp_path / "run" / "student.json").read_text())["model"] is None


def test_config_names_every_setting(small_train, small_mcl, tmp_path):
    small_train(method=small_mcl, out=tmp_path / "run", epochs=1)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["method"]["class_path"] == "classmates.MCL"
    assert config["method"]["init_args"]["peers"] == 2
    assert config["method"]["init_args"]["beta"] == 0.025
    assert config["schedule"] == "CosineAnnealingLR"
    assert config["augmentation"]


class TooLong(Baseline):
    """Learns nothing in fewer than five epochs."""

    def check_length(self, epochs):
        raise UserError("TooLong needs 5 epochs or more")


class Exploding(Method):
    """Its second term is infinite from the third step on."""

    def __init__(self, network, data):
        super().__init__(Peers(network, data), data, weights={"ce": 1.0, "boom": 1.0})
        self.steps = 0

    def terms(self, outputs, batch):
        self.steps += 1
        boom = torch.tensor(float("inf") if self.steps > 2 else 0.0)
        return {"ce": lambda: nn.functional.cross_entropy(outputs[-1].logits, batch.labels), "boom": lambda: boom}


def test_a_non_finite_term_stops_at_once_and_is_named(small_train, tmp_path):
    with pytest.raises(NonFiniteLoss, match="'boom' is not finite since step 2"):
        small_train(method=Exploding, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet9"}, "unknown model 'resnet9'.*resnet8"),
        ({"data": "digit"}, "digits"),
        ({"method": CORSD, "batch_size": 64}, "63 or 66"),
        ({"method": "MLC"}, "unknown method 'MLC'.*'MCL'"),
        ({"method": 3}, "method=3: give a method's name, such as 'MCL', its class"),
        ({"task": "fewshot"}, "unknown task 'fewshot'.*'few_shot'"),
        ({"optimizer": "SDG"}, "unknown optimizer 'SDG'.*'SGD'"),
        ({"optimizer_args": {"momentun": 0.9}}, "'momentum'"),
        ({"optimizer_args": {"lr": 0.9}}, "--lr"),
        ({"schedule": "CosineAnealingLR"}, "CosineAnnealingLR"),
        ({"schedule": "StepLR"}, "schedule StepLR.*step_size"),
        ({"stages": ["layer7", "layer2"]}, "layer7"),
        ({"model": timm.create_model("resnet8", num_classes=7, in_chans=1)}, "7 outputs.*10 classes"),
        ({"model": timm.create_model("resnet8", num_classes=10, in_chans=3)}, "cannot take images of 1 channels"),
        ({"epochs": 0}, "epochs=0"),
        ({"precision": "17"}, "precision.*17"),
        ({"accelerator": "abacus"}, "accelerator.*abacus"),
        ({"max_time": "soon"}, "max_time is 'soon': give a time such as 2h"),
        ({"max_time": "00:00:00:00"}, "max_time.*not nothing"),
        ({"recompute": "everything"}, "unknown recompute 'everything'"),
        ({"recompute": "shared"}, "share nothing; say 'all'"),
        ({"recompute": "all", "step": "compile"}, "choose one"),
        ({"seed": -1}, "seed=-1: give a number from 0"),
        ({"gradient_clip": -1.0}, r"gradient_clip=-1\.0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"augmentation": Augmentation(cutout=8)}, "cutout is 8, but the images are 8x8"),
        (
            {"image_size": 72, "augmentation": Augmentation(padding_mode="reflect")},
            "padding_mode are for images kept",
        ),
        ({"model": "test_resnet", "model_args": {"act_layer": nn.SiLU}}, "model_args must be plain"),
        ({"model": nn.Linear(1, 10), "model_args": {"bias": False}}, "not for a network given as an object"),
        ({"method": TooLong}, "needs 5 epochs or more"),
        ({"loggers": ["tensorbord"]}, "^unknown logger 'tensorbord'.*'tensorboard'"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(settings, message, small_train, tmp_path):
    with pytest.raises(UserError, match=message):
        small_train(out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_data_are_read(small_train, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "run", tmp_path / "file", Path("/proc/run")):
        with pytest.raises(UserError, match=f"'{out}/config.yaml' cannot be written"):
            small_train(data="no such data", out=out)


@pytest.mark.parametrize(
    ("settings", "said"), [({"max_time": "soon"}, "max_time is 'soon'"), ({}, "already holds something else")]
)
def test_what_needs_no_data_to_be_told_is_told_before_they_are_read(small_train, tmp_path, settings, said):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/letter.txt").touch()
    with pytest.raises(UserError, match=said):
        small_train(data="no such data", out=tmp_path / "run", **settings)


@pytest.fixture
def photos(tmp_path):
    """Two classes of 12 images each, larger than what is kept in memory and not square."""
    generator = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (5, 9, 3), dtype=np.uint8)).resize((100, 80)).save(path)
    return tmp_path / "photos"


def test_images_from_files_are_tested_as_they_were_trained_on(small_train, photos, tmp_path, monkeypatch):
    module, asked = import_module("classmates.training.result"), []

    def note(images, split, batch_size, **how):
        asked.append((batch_size, how["num_workers"]))
        return eval_loader(images, split, batch_size, **how)

    monkeypatch.setattr(module, "eval_loader", note)
    settings = {"data": photos, "train_size": None, "image_size": 72, "batch_size": 6, "num_workers": 0, "epochs": 1}
    result = small_train(**settings, augmentation=Augmentation(fill=128), out=tmp_path / "run")
    assert asked == [(6, 0)] * 3  # test, validation after the last epoch and after the best
    assert any(note.startswith("fill 128 has no effect") for note in result.record.notes)

    _, card = load_student(tmp_path / "run")
    images = load(photos, image_size=72)
    seen = next(iter(eval_loader(images, images.test, 1, num_workers=0))).images[0]
    pixels = (seen * torch.tensor(card.std).view(3, 1, 1) + torch.tensor(card.mean).view(3, 1, 1)) * 255
    shown = torch.from_numpy(picture(images.test, 0, card)).permute(2, 0, 1)
    torch.testing.assert_close(pixels, shown.float(), atol=1e-3, rtol=0)


def test_methods_and_tasks_go_by_name_too(small_train, tmp_path):
    by_name = small_train(method="CSKD", task="classification", out=tmp_path / "name", epochs=1)
    by_class = small_train(method=CSKD, out=tmp_path / "class", epochs=1)
    assert by_name.record.config["method"]["class_path"] == "classmates.CSKD"
    assert {**by_name.record.config, "out": ""} == {**by_class.record.config, "out": ""}
    assert by_name.record.test == by_class.record.test


def test_options_of_methods_are_checked(small_train, tmp_path):
    for wrong, message in [
        ({"peers": 1}, "at least 2"),
        ({"num_negatives": 0}, "num_negatives=0"),
        ({"share": "layer9"}, "layer9"),
    ]:
        with pytest.raises(UserError, match=message):
            small_train(method=lambda network, data, wrong=wrong: MCL(network, data, **wrong), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_peers_do_not_throw_given_weights_away(small_train, small_mcl, tmp_path):
    source = timm.create_model("resnet8", num_classes=4, in_chans=1)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"--method\.start same"):
        small_train(
            method=lambda *given: small_mcl(*given), model_weights=tmp_path / "weights.pth", out=tmp_path / "run"
        )
    same = partial(small_mcl, start="same")
    result = small_train(method=same, model_weights=tmp_path / "weights.pth", out=tmp_path / "run", epochs=1)
    assert any("classifier 'fc' is new" in note for note in result.record.notes)
