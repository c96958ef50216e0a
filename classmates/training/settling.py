"""Settings that the user leaves open: a recipe settles them, and notes say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from torch import nn

from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.methods.spec import MethodSpec
from classmates.networks.building.build import sized
from classmates.networks.building.published import has_published_weights, out_of_reach
from classmates.training.beginning import brings_weights
from classmates.training.config import RunConfig, TrainConfig
from classmates.training.optimisation import find_optimizer
from classmates.training.recipes import BY_NAME, MANY, SMALL, Situation, default_model, recipe_for

EARLIER: Mapping[str, Any] = {
    "model": "resnet8",
    "pretrained": False,
    "epochs": 100,
    "batch_size": 96,
    "optimizer": "SGD",
    "lr": 0.05,
    "schedule": "CosineAnnealingLR",
    "warmup_epochs": 0.0,
}
"""The recipe "none": the defaults of version 0.1, the same whatever the data are."""
RATES = {"SGD": 0.05, **dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam", "Adamax"), 1e-3)}
"""The learning rate of an optimiser that the user names without one."""
OPTIMISATION = ("optimizer", "optimizer_args", "lr", "schedule", "schedule_args", "warmup_epochs", "layer_decay")
"""The arguments that belong together: a recipe's rate is right for its optimiser."""


def settle(config: TrainConfig, images: ImageData) -> tuple[RunConfig, list[str]]:
    """Fill in what was left open, by the recipe for these data, with notes on what was chosen.

    What the user gives stays. Where that is an optimiser, the rest of the optimisation is the user's too; arguments
    without one go over those of the recipe's.

    Raises:
        UserError: an optimiser whose learning rate must be given.
    """
    given = {entry.name: getattr(config, entry.name) for entry in fields(TrainConfig)}
    if config.batch_size == "auto":
        given["batch_size"] = None  # the recipe's, to begin with
    chosen, name, notes = by_recipe(config, images)
    own: set[str] = set()  # what is not the recipe's
    if config.optimizer is not None and not _same(config.optimizer, chosen["optimizer"]):
        rest = {"lr": _rate(config), "schedule": "CosineAnnealingLR", "warmup_epochs": 0.0}
        chosen = {key: value for key, value in chosen.items() if key not in OPTIMISATION} | rest
        own = {*rest}
    elif config.schedule is not None and config.schedule != chosen["schedule"]:
        chosen = {key: value for key, value in chosen.items() if key not in ("schedule", "schedule_args")}
        chosen["warmup_epochs"] = 0.0
    least_crop = chosen.pop("crop_scale", None)
    open_settings = {key: value for key, value in chosen.items() if given[key] is None}
    if "warmup_epochs" in open_settings:  # of few epochs, a tenth
        epochs = int(chosen["epochs"] if config.epochs is None else config.epochs)
        open_settings["warmup_epochs"] = min(open_settings["warmup_epochs"], epochs / 10)
    settled = given | open_settings
    for kind in ("optimizer", "schedule"):
        of_recipe = chosen.get(f"{kind}_args")
        if given[kind] is None and of_recipe and (over := given[f"{kind}_args"]):
            settled[f"{kind}_args"] = {**of_recipe, **over}
            open_settings[f"{kind}_args"] = {name: value for name, value in of_recipe.items() if name not in over}
    if least_crop is not None and images.train.images is None and config.augmentation.crop_scale is None:
        settled["augmentation"] = replace(config.augmentation, crop_scale=least_crop)
        open_settings["augmentation.crop_scale"] = least_crop
    fixed = sized(settled["model"], images.image_size) if isinstance(settled["model"], str) else {}
    if fixed and "img_size" not in (config.model_args or {}):
        settled["model_args"] = {**fixed, **(config.model_args or {})}
        height, width = images.image_size
        notes.append(f"{settled['model']} takes images of one size alone: it is built for {height}x{width} pixels")
    spec = MethodSpec.of(config.method)
    if spec is not None and (bool(settled["pretrained"]) or config.model_weights is not None):
        settled["method"] = spec.from_weights()
        if settled["method"] != spec:
            changed = {
                name: value for name, value in settled["method"].options.items() if spec.options.get(name) != value
            }
            said = ", ".join(f"{name} {value}" for name, value in changed.items())
            notes.append(f"{spec.name} from trained weights: {said}")
    if (
        name
        and "lr" in open_settings.keys() - own
        and isinstance(config.batch_size, int)
        and config.batch_size != chosen["batch_size"]
    ):
        notes.append(
            f"batch_size {config.batch_size} where the recipe has {chosen['batch_size']}: its lr "
            f"{open_settings['lr']:g} stays, though larger batches want a higher one and smaller ones a lower"
        )
    if name:
        of_whom = {
            f"recipe '{name}', for {len(images.train):,} images of {_pixels(images)} pixels": open_settings.keys()
            - own,
            f"with optimizer {config.optimizer}": open_settings.keys() & own,
        }
        for whose, keys in of_whom.items():
            if told := [f"{key} {_short(value)}" for key, value in open_settings.items() if value and key in keys]:
                notes.append(f"{whose}: {', '.join(told)}")
    return RunConfig(**settled), notes


def by_recipe(config: TrainConfig, images: ImageData) -> tuple[dict[str, Any], str, list[str]]:
    """Return the settings of the recipe for these data, its name, and notes on weights that cannot be had.

    The name is empty for the recipe "none".
    """
    if config.recipe == "none":
        return dict(EARLIER), "", []
    of_task = config.made_task.recipe(images) if config.recipe == "auto" else None
    if of_task is not None:
        return dict(of_task), config.made_task.name, []
    count, pixels, notes = len(images.train), _pixels(images), []
    pretrained = config.pretrained
    if pretrained is None:
        pretrained = config.model_weights is None and brings_weights(config, images)
        if pretrained:
            notes.append(
                f"{_short(config.model)} comes trained, as its normalisation layers show: training begins from its "
                "weights; --pretrained false takes it for new"
            )
        elif config.model_weights is None and wants_weights(config, count, pixels):
            wanted = config.model or default_model(pixels, count)
            why = out_of_reach(str(wanted))
            pretrained = why is None
            if why is not None:
                notes.append(
                    f"the published weights of {wanted} cannot be had: {why}. Training begins from scratch, which "
                    f"takes many more epochs and images; with a file of them, give --model {wanted} "
                    "--model_weights FILE (safetensors or a state dict, as timm publishes it)"
                )
    weights = bool(pretrained) or config.model_weights is not None
    found = Situation(count, pixels, weights)
    recipe = recipe_for(found) if config.recipe == "auto" else BY_NAME[config.recipe]
    settings = {
        "model": default_model(pixels, count),
        "pretrained": pretrained,
        "batch_size": found.batch_size,
        "warmup_epochs": 0.0,
    }
    return settings | dict(recipe.settings(found)), recipe.name, notes


def wants_weights(config: TrainConfig, count: int, pixels: int) -> bool:
    """Return whether published weights are the usual beginning: of photos that are not many."""
    if config.recipe not in ("auto", "photos-pretrained") or pixels <= SMALL or count >= MANY:
        return False
    return config.model is None or (isinstance(config.model, str) and has_published_weights(config.model))


def _rate(config: TrainConfig) -> float:
    find_optimizer(str(config.optimizer))
    rates = {name.lower(): rate for name, rate in RATES.items()}
    rate = config.lr if config.lr is not None else rates.get(str(config.optimizer).lower())
    if rate is None:
        raise UserError(f"optimizer '{config.optimizer}' was given without its learning rate: say --lr")
    return rate


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _pixels(images: ImageData) -> int:
    return max(images.image_size)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {part}" for name, part in value.items()) + "}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    return f"{value:g}" if isinstance(value, float) else str(value)
