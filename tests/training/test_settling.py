"""What is left open is settled by a recipe, said, and overruled by whatever the user gives."""

import dataclasses
import inspect
from functools import partial

import pytest
import torch

from classmates.data.augmentation import Augmentation
from classmates.data.parts import ImageData, Split
from classmates.errors import UserError
from classmates.methods import MCL, ONE, Baseline
from classmates.training import settling
from classmates.training.config import TrainConfig
from classmates.training.recipes import BATCHES, RECIPES, Situation, recipe_for
from classmates.training.settling import settle
from classmates.training.train import train


def images(count=540, pixels=96, in_memory=False):
    """As much of a data set as a recipe looks at."""
    shape = (pixels, pixels)
    kept = torch.zeros(count, *shape, 3, dtype=torch.uint8) if in_memory else None
    split = Split(torch.arange(count) % 4, images=kept, class_names=("a", "b", "c", "d"))
    return ImageData("photos", 3, shape, (0.5,) * 3, (0.2,) * 3, split, None, split)


def config(**given):
    defaults = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
    return TrainConfig(**{**defaults, "data": "photos", **given})


@pytest.fixture
def hub(monkeypatch):
    """Lets published weights be at hand, or not."""

    def reach(reason):
        monkeypatch.setattr(settling, "out_of_reach", lambda name: reason)

    return reach


def test_photos_begin_from_published_weights_where_they_can_be_had(hub):
    hub(None)
    settled, notes = settle(config(), images())
    assert settled.pretrained
    assert settled.model == "tf_efficientnet_lite0"
    assert settled.optimizer == "AdamW"
    assert any(note.startswith("recipe 'photos-pretrained', for 540 images of 96 pixels: ") for note in notes)


def test_without_a_network_it_is_said_how_weights_are_brought(hub):
    hub("the Hub does not answer")
    settled, notes = settle(config(model="mobilenetv3_small_100"), images())
    assert not settled.pretrained
    assert any("mobilenetv3_small_100 cannot be had" in note and "--model_weights FILE" in note for note in notes)
    assert any("recipe 'photos-scratch'" in note for note in notes)


def test_a_file_of_weights_counts_as_weights(tmp_path):
    settled, _ = settle(config(model="resnet18", model_weights=tmp_path / "weights.safetensors"), images())
    assert settled.optimizer == "AdamW"
    assert not settled.pretrained


def test_small_images_never_ask_for_weights(monkeypatch):
    monkeypatch.setattr(settling, "out_of_reach", lambda name: pytest.fail("asked"))
    settled, _ = settle(config(), images(pixels=32, in_memory=True))
    assert (settled.model, settled.optimizer, settled.pretrained) == ("resnet20", "SGD", False)


def test_peers_begin_from_the_weights_too(hub):
    hub(None)
    settled, notes = settle(config(method=MCL), images())
    assert settled.method.options == dict(MCL.fine_tuning)
    assert any(note.startswith("MCL from trained weights: ") and "start identical" in note for note in notes)
    settled, notes = settle(config(method=ONE), images())
    assert settled.method.options == {"start": "same"}
    _, notes = settle(config(method=Baseline), images())
    assert not any("from trained weights" in note for note in notes)
    scratch, _ = settle(config(method=MCL, pretrained=False), images())
    assert scratch.method is MCL


def test_options_that_are_chosen_stay_also_at_their_defaults(hub):
    hub(None)
    settled, _ = settle(config(method=partial(MCL, peers=4, share=-2)), images())
    assert settled.method.options == {"start": "identical", "views": "own", "distil_to": "all"}
    again, notes = settle(config(method=settled.method.plain()), images())
    assert again.method == settled.method
    assert not any("from trained weights" in note for note in notes)
    others, _ = settle(config(method=partial(MCL, peers=2, share="nothing", peer_models=["resnet14"])), images())
    assert others.method.options["start"] == "same"
    assert "views" not in others.method.options


def test_what_is_given_stays(hub):
    hub(None)
    given = {"epochs": 3, "batch_size": 30, "lr": 0.5, "warmup_epochs": 0.5, "model": "resnet18", "pretrained": False}
    settled, _ = settle(config(**given, augmentation=Augmentation(crop_scale=0.9)), images())
    assert {name: getattr(settled, name) for name in given} == given
    assert settled.augmentation.crop_scale == 0.9


def test_an_optimiser_of_the_users_own_leaves_the_recipes_behind(hub):
    hub(None)
    settled, _ = settle(config(optimizer="SGD"), images())
    assert (settled.lr, settled.schedule, settled.layer_decay) == (0.05, "CosineAnnealingLR", None)
    with pytest.raises(UserError, match="optimizer 'lamb' was given without its learning rate: say --lr"):
        settle(config(optimizer="lamb"), images())
    with pytest.raises(UserError, match="unknown optimizer 'SDG'"):
        settle(config(optimizer="SDG"), images())


@pytest.mark.parametrize("recipe", ["photos-pretrained", "large", "photos-scratch", "small-images"])
def test_single_arguments_go_over_those_of_the_recipes_optimiser_and_schedule(hub, recipe):
    hub(None)
    whole, _ = settle(config(recipe=recipe), images())
    given = {"optimizer_args": {"fused": False, "weight_decay": 0.5}, "schedule_args": {"last_epoch": -1}}
    settled, notes = settle(config(recipe=recipe, **given), images())
    for name, own in given.items():
        assert getattr(settled, name) == {**(getattr(whole, name) or {}), **own}
        rest = {key: value for key, value in (getattr(whole, name) or {}).items() if key not in own}
        assert (f"{name} {{" in notes[-1]) is bool(rest)
    again, _ = settle(settled, images())  # as a run's config.yaml has them
    assert (again.optimizer_args, again.schedule_args) == (settled.optimizer_args, settled.schedule_args)
    named, _ = settle(config(recipe=recipe, optimizer=whole.optimizer, optimizer_args={"fused": False}), images())
    assert named.optimizer_args == {"fused": False}


def test_none_is_the_same_whatever_the_data_are():
    for found in (images(), images(pixels=8, in_memory=True)):
        settled, notes = settle(config(recipe="none"), found)
        assert (settled.model, settled.epochs, settled.batch_size, settled.lr) == ("resnet8", 100, 96, 0.05)
        assert settled.warmup_epochs == 0
        assert notes == []


def test_few_epochs_have_a_short_warm_up():
    settled, _ = settle(config(epochs=2), images(pixels=32, in_memory=True))
    assert settled.warmup_epochs == pytest.approx(0.2)


def test_nothing_is_left_open(hub):
    hub(None)
    settled, _ = settle(config(), images())
    open_before = [
        entry.name for entry in dataclasses.fields(TrainConfig) if "None" in str(entry.type) and entry.name in OPEN
    ]
    assert open_before
    assert all(getattr(settled, name) is not None for name in open_before)


OPEN = ("model", "epochs", "batch_size", "lr", "pretrained", "optimizer", "schedule", "warmup_epochs")


SITUATIONS = {
    (24, 8, True): ("photos-pretrained", 12, 40),
    (24, 64, False): ("small-images", 12, 100),
    (24, 96, False): ("photos-scratch", 12, 150),
    (539, 96, True): ("photos-pretrained", 12, 10),
    (540, 224, True): ("photos-pretrained", 18, 13),
    (540, 65, False): ("photos-scratch", 18, 100),
    (5_000, 32, True): ("photos-pretrained", 96, 10),
    (5_000, 96, False): ("photos-scratch", 96, 58),
    (60_000, 32, False): ("small-images", 96, 200),
    (60_000, 224, False): ("photos-scratch", 96, 30),
    (99_999, 224, True): ("photos-pretrained", 96, 10),
    (100_000, 224, True): ("large", 192, 90),
    (2_000_000, 64, True): ("small-images", 192, 200),
    (2_000_000, 96, False): ("large", 192, 90),
}
"""Training images, pixels, whether there are weights: the recipe, its batch (of pairs and triplets), its epochs."""


def test_every_situation_has_a_recipe_with_steps_enough():
    found = {}
    for facts in SITUATIONS:
        situation = Situation(*facts)
        recipe = recipe_for(situation)
        found[facts] = recipe.name, situation.batch_size, recipe.settings(situation)["epochs"]
    assert found == SITUATIONS
    assert [size for size in (*BATCHES, 192) if size % 6] == []


def test_recipes_have_names_and_evidence():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert all(recipe.evidence for recipe in RECIPES)


def test_an_unknown_recipe_is_told():
    with pytest.raises(UserError, match="unknown recipe 'photos': did you mean 'photos-"):
        config(recipe="photos")


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, False), ({"batch_size": 18}, False), ({"batch_size": 96}, True), ({"batch_size": 96, "lr": 1e-3}, False)],
)
def test_a_rate_that_is_for_another_batch_is_told(hub, given, told):
    hub(None)
    settled, notes = settle(config(**given), images())
    assert given.get("batch_size", 18) == settled.batch_size
    said = f"batch_size 96 where the recipe has 18: its lr {settled.lr:g} stays"
    assert any(note.startswith(said) for note in notes) is told


@pytest.mark.parametrize(
    ("given", "built"),
    [
        ({"model": "vit_tiny_patch16_224"}, {"img_size": [128, 128]}),
        ({"model": "vit_tiny_patch16_224", "model_args": {"img_size": 96}}, {"img_size": 96}),
        ({"model": "vit_tiny_patch16_224", "model_args": {"depth": 2}}, {"img_size": [128, 128], "depth": 2}),
        ({"model": "resnet18"}, None),
    ],
)
def test_a_network_of_one_size_is_built_for_that_of_the_images(hub, given, built):
    hub(None)
    settled, notes = settle(config(**given), images(pixels=128))
    assert settled.model_args == built
    told = "vit_tiny_patch16_224 takes images of one size alone: it is built for 128x128 pixels" in notes
    assert told is (built is not None and built["img_size"] != 96)


def test_what_follows_from_the_users_optimiser_is_not_said_to_be_the_recipes(hub):
    hub(None)
    settled, notes = settle(config(optimizer="SGD", batch_size=96), images())
    assert f"with optimizer SGD: lr {settled.lr:g}, schedule CosineAnnealingLR" in notes
    assert not any("where the recipe has" in note for note in notes)
    (of_recipe,) = (note for note in notes if note.startswith("recipe '"))
    assert "epochs" in of_recipe
    assert not any(word in of_recipe for word in ("lr", "schedule"))
