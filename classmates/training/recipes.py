"""Settings to begin with: rules from what is known of the data and of the weights at hand, each with its evidence.

The first recipe that fits is taken. ``train`` fills with it what is left open, ``compare`` does so for all rows
alike, and ``classmates data`` shows it. The papers' own recipes leave nothing open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

BATCHES = (12, 18, 24, 48, 96)
"""The batch is the largest that leaves ``STEPS`` steps an epoch; all suit triplets and pairs."""
STEPS = 30
MANY = 100_000
"""From so many training images on, a network learns enough from them alone."""
SMALL = 64
"""Pixels; images up to this size are kept in memory and are taken by the networks made for CIFAR."""


@dataclass(frozen=True)
class Situation:
    """The facts by which a recipe is chosen.

    Args:
        images: how many to train on.
        pixels: the longer side of an image as the network gets it.
        weights: whether training begins from published weights.
    """

    images: int
    pixels: int
    weights: bool

    @property
    def batch_size(self) -> int:
        if self.images >= MANY:
            return 192
        return max((size for size in BATCHES if size * STEPS <= self.images), default=BATCHES[0])

    def epochs(self, steps: int, least: int, most: int) -> int:
        """Return how many epochs make about so many steps, within bounds."""
        return min(most, max(least, round(steps / max(1, self.images // self.batch_size))))


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of ``train`` for a kind of situation.

    Args:
        name: as notes and results have it.
        fits: whether it is for a situation.
        settings: arguments of ``train`` for a situation it fits.
        evidence: what it rests on.
    """

    name: str
    fits: Callable[[Situation], bool]
    settings: Callable[[Situation], Mapping[str, Any]]
    evidence: str


def fine_tuning(found: Situation) -> Mapping[str, Any]:
    """Return one cycle of AdamW with a warm-up, of some 400 steps or more.

    What it is worth on 540 photos is in results/photos.
    """
    return {
        "epochs": found.epochs(steps=400, least=10, most=40),
        "optimizer": "AdamW",
        "optimizer_args": {"weight_decay": 0.05},
        "lr": 1e-3,
        "schedule": "OneCycleLR",
        "schedule_args": {"pct_start": 0.1, "cycle_momentum": False},
        "layer_decay": 1.0,
        "crop_scale": 0.6,
    }


def photos_from_scratch(found: Situation) -> Mapping[str, Any]:
    """Return a long cycle of AdamW: few photos are gone through many times."""
    return {
        "epochs": found.epochs(steps=3000, least=30, most=150),
        "optimizer": "AdamW",
        "optimizer_args": {"weight_decay": 0.05},
        "lr": 2e-3,
        "schedule": "OneCycleLR",
        "schedule_args": {"pct_start": 0.1, "cycle_momentum": False},
        "layer_decay": 1.0,
        "crop_scale": 0.35,
    }


def small_images(found: Situation) -> Mapping[str, Any]:
    """Return SGD with Nesterov momentum and a cosine, as in papers on CIFAR, and fewer epochs of few images."""
    return {
        "epochs": 100 if found.images < 10_000 else 200,
        "optimizer": "SGD",
        "optimizer_args": None,
        "lr": 0.05,
        "schedule": "CosineAnnealingLR",
        "schedule_args": None,
        "warmup_epochs": 1.0,
    }


def large_sets(found: Situation) -> Mapping[str, Any]:
    """Return the usual recipe for ResNets on ImageNet: SGD, a warm-up of five epochs, a cosine over ninety."""
    return {
        "epochs": 90,
        "optimizer": "SGD",
        "optimizer_args": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        "lr": 0.075,  # 0.1 for a batch of 256, in proportion to 192
        "schedule": "CosineAnnealingLR",
        "schedule_args": None,
        "warmup_epochs": 5.0,
    }


RECIPES = (
    TrainingRecipe(
        "photos-pretrained",
        lambda found: found.weights and found.images < MANY,
        fine_tuning,
        "results/photos",
    ),
    TrainingRecipe(
        "large",
        lambda found: found.images >= MANY and found.pixels > SMALL,
        large_sets,
        "Goyal et al., 2017, and the papers' ImageNet settings; not tried here",
    ),
    TrainingRecipe(
        "small-images",
        lambda found: found.pixels <= SMALL,
        small_images,
        "results/digits-500 and results/cifar100-superclasses",
    ),
    TrainingRecipe(
        "photos-scratch",
        lambda found: True,
        photos_from_scratch,
        "results/evidence/photos-scratch",
    ),
)
"""In the order in which they are tried."""
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
NAMES = tuple(BY_NAME)
RECOMMENDED = {
    "photos-pretrained": ("MCL",),
    "large": ("MCL",),
    "small-images": ("MCL", "CutMix", "CutMix (3 × as long)"),
    "photos-scratch": ("MCL", "CutMix (3 × as long)"),
}
"""The rows that are worth trying beside Baseline, by the recipe that the data call for.

What an improvement tries is no default: its own validation images choose. From scratch CutMix, which costs nothing,
was better on each of six seeds of small images that are in no test set, and over three times the epochs, which take
as long as MCL, by eight points and more on each of three. Of photos only the longer one is tried: on a few hundred
CutMix lost without the longer training (docs/evidence/from_scratch.md).
"""


def recipe_for(found: Situation) -> TrainingRecipe:
    """Return the first recipe that fits; the last fits everything."""
    return next(recipe for recipe in RECIPES if recipe.fits(found))


def default_model(pixels: int, images: int) -> str:
    """Return the network to begin with.

    ==================  ===================  ========================================================
    pixels              training images      network
    ==================  ===================  ========================================================
    up to 16            any                  resnet8
    up to 64            under 10,000         resnet20
    up to 64            10,000 or more       resnet32
    more                under 100,000        tf_efficientnet_lite0
    more                100,000 or more      resnet50
    ==================  ===================  ========================================================

    From scratch, on a few hundred photos, EfficientNet-Lite0 is better than ResNet-18 and MobileNetV3, and quicker
    than the former (results/evidence/photos-scratch).
    """
    if pixels <= SMALL:
        return "resnet8" if pixels <= 16 else "resnet20" if images < 10_000 else "resnet32"
    return "resnet50" if images >= MANY else "tf_efficientnet_lite0"
