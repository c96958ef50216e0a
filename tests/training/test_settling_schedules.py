"""A schedule that the user names in place of the recipe's has nothing of the recipe's."""

import inspect

import pytest
import torch

from classmates.data.parts import ImageData, Split
from classmates.training.config import TrainConfig
from classmates.training.settling import settle
from classmates.training.train import train


@pytest.fixture
def settled():
    """Settles on images of so many pixels, from scratch."""

    def make(pixels, **given):
        labels, size = torch.arange(540) % 4, (pixels, pixels)
        kept = torch.zeros(540, *size, 3, dtype=torch.uint8) if pixels <= 64 else None
        split = Split(labels, kept, class_names=("a", "b", "c", "d"))
        images = ImageData("photos", 3, size, (0.5,) * 3, (0.2,) * 3, split, None, split)
        defaults = {name: entry.default for name, entry in inspect.signature(train).parameters.items()}
        return settle(TrainConfig(**{**defaults, "data": "photos", "pretrained": False, **given}), images)[0]

    return make


def test_the_recipes_arguments_are_for_the_recipes_schedule_alone(settled):
    recipe = settled(96)
    assert (recipe.schedule, set(recipe.schedule_args)) == ("OneCycleLR", {"pct_start", "cycle_momentum"})
    assert settled(96, schedule="OneCycleLR").schedule_args == recipe.schedule_args
    other = settled(96, schedule="CosineAnnealingLR")
    assert (other.schedule, other.schedule_args) == ("CosineAnnealingLR", None)
    assert (other.optimizer, other.lr, other.optimizer_args) == (recipe.optimizer, recipe.lr, recipe.optimizer_args)
    own = settled(96, schedule="CosineAnnealingLR", schedule_args={"eta_min": 1e-5})
    assert own.schedule_args == {"eta_min": 1e-5}


def test_another_schedule_has_a_warm_up_only_if_it_is_asked_for(settled):
    assert settled(32).warmup_epochs == 1
    assert settled(32, schedule="CosineAnnealingLR").warmup_epochs == 1  # the recipe's own
    assert settled(32, schedule="StepLR", schedule_args={"step_size": 5}).warmup_epochs == 0
    assert settled(32, schedule="StepLR", schedule_args={"step_size": 5}, warmup_epochs=2).warmup_epochs == 2
