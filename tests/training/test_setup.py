"""What the settings of a run become: its method, optimiser, batches, trainer, and the card of its student."""

import inspect
import json
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from classmates._own_code import code_hash
from classmates.contracts import Batch
from classmates.data.parts import ImageData, Split
from classmates.errors import UserError
from classmates.methods import CSKD
from classmates.networks.peers.peers import Peers
from classmates.runs.student import load_student
from classmates.training.config import RunConfig, TrainConfig
from classmates.training.ranks import as_configured
from classmates.training.settling import settle
from classmates.training.setup import build_method, make_trainer, run_folder, training_module
from classmates.training.train import train

COUNTS = [63, 18, 9]
"""Training images of each class."""


@pytest.fixture
def images() -> ImageData:
    """90 images of noise, of three classes of different sizes."""
    labels = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    pixels = torch.randint(256, (90, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(labels, pixels, class_names=("many", "some", "few"))
    return ImageData("noise", 1, (8, 8), (0.5,), (0.3,), split, None, split)


@pytest.fixture
def settled(small_train, images) -> Callable[..., RunConfig]:
    """Makes the settings of a small run with those that a test gives."""

    def make(**given: object) -> RunConfig:
        defaults = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
        return settle(TrainConfig(**{**defaults, **small_train.keywords, **given}), images)[0]

    return make


def test_a_students_card_knows_the_file_that_it_was_built_by(small_train, tmp_path):
    file = tmp_path / "net.py"
    file.write_text("from classmates.models import resnet8 as Net\n")
    small_train(model=f"{file}:Net", epochs=1, test=False, out=tmp_path / "run")
    card = json.loads((tmp_path / "run" / "student.json").read_text())
    assert card["code"] == code_hash(f"{file}:Net")
    load_student(tmp_path / "run", trust_code=True)
    file.write_text("from classmates.models import resnet8 as Net\n# and a line more\n")
    with pytest.raises(UserError, match=r"net\.py' has changed since it trained the student"):
        load_student(tmp_path / "run", trust_code=True)


@pytest.mark.parametrize(("step", "times"), [("compile", 1), ("auto", 0), ("eager", 0)])
def test_networks_are_compiled_where_that_is_asked_for(step, times, settled, images, monkeypatch):
    compiled = []
    monkeypatch.setattr(Peers, "compile_parts", lambda networks: compiled.append(networks))
    method, _ = build_method(settled(step=step), images)
    assert compiled == [method.networks] * times


@pytest.fixture
def algorithms_as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning sets it, for good
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("algorithms_as_before")
@pytest.mark.parametrize("deterministic", [True, False])
def test_algorithms_are_deterministic_where_that_is_asked_for(deterministic, settled, images, tmp_path):
    torch.use_deterministic_algorithms(not deterministic)
    config = settled(deterministic=deterministic, out=tmp_path / "run")
    method, _ = build_method(config, images)
    module, _ = training_module(config, method, images)
    make_trainer(config, run_folder(config, method), module, as_configured(config), images, [])
    assert torch.are_deterministic_algorithms_enabled() is deterministic


@pytest.mark.parametrize(("balanced", "seen"), [(True, [30, 30, 30]), (False, COUNTS)])
def test_an_epoch_shows_every_class_equally_often_where_that_is_asked_for(balanced, seen, settled, images):
    config = settled(balanced_sampling=balanced)
    method, _ = build_method(config, images)
    module, _ = training_module(config, method, images)
    training, _ = module.make_loaders(0, 1, torch.device("cpu"))
    labels = torch.cat([batch.labels for batch in training])
    assert labels.bincount().tolist() == seen


def test_methods_keep_their_batches_where_classes_are_shown_equally_often(settled, images):
    config = settled(method=CSKD, balanced_sampling=True)
    method, _ = build_method(config, images)
    module, _ = training_module(config, method, images)
    training, _ = module.make_loaders(0, 1, torch.device("cpu"))
    labels = torch.cat([batch.labels for batch in training])
    assert torch.equal(labels[0::2], labels[1::2])
    assert labels.bincount().min() >= 28  # of 30, as those of pairs


@pytest.mark.parametrize(
    ("class_weights", "weight"), [("balanced", [90 / 189, 90 / 54, 90 / 27]), ("none", [1.0] * 3)]
)
def test_every_class_counts_the_same_in_the_loss_where_that_is_asked_for(class_weights, weight, settled, images):
    method, _ = build_method(settled(class_weights=class_weights), images)
    labels = images.train.labels
    output = method(Batch(images.train.images.movedim(-1, 1) / 255, labels, torch.arange(90)))
    expected = F.cross_entropy(output.outputs[-1].logits, labels, torch.tensor(weight))
    torch.testing.assert_close(output.terms["ce"], expected)


@pytest.mark.parametrize(
    ("clip", "precision", "fused"),
    [(1.0, "16-mixed", False), (1.0, "16", False), (None, "16-mixed", True), (1.0, "32-true", True)],
)
def test_an_optimiser_whose_scaled_gradients_are_clipped_is_not_fused(clip, precision, fused, settled, images):
    """Lightning refuses to clip what a fused step has still to unscale, in the first step."""
    config = settled(gradient_clip=clip, precision=precision)
    module, _ = training_module(config, build_method(config, images)[0], images)
    assert bool(module.make_optimizer().defaults["fused"]) is fused
