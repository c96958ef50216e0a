"""Suggested settings for a data set: the recipe that ``train`` takes for it, and the command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from classmates.data.parts import ImageData
from classmates.data.readers.listing import usual_size
from classmates.training.recipes import MANY, SMALL, Situation, default_model, recipe_for


@dataclass(frozen=True)
class Suggestion:
    """Settings of ``train`` to begin with; as text, what it chooses by itself.

    recipe: its name in ``training/recipes.py``, which settles what else there is. image_size: None where the images'
    own is right. pretrained: whether it begins from published weights. crop_scale: the least share of an image that a
    random crop keeps, where images are read from files; None where nothing is cropped so.
    """

    recipe: str
    model: str
    batch_size: int
    epochs: int
    image_size: int | None = None
    pretrained: bool = False
    crop_scale: float | None = None

    def __str__(self) -> str:
        weights = " from published weights, where these can be reached" if self.pretrained else ""
        return f"recipe {self.recipe}: {self.epochs} epochs{weights}"

    def command(self, data: Mapping[str, Any]) -> str:
        """Return the command that trains with it; for a dataset in Python, the call.

        The recipe, its epochs and its weights are left to ``train``, which takes others where weights cannot be
        reached.

        Args:
            data: the arguments of ``train`` that say which images, ``data`` the first; None where one is not given.
        """
        settings = {"model": self.model, "batch_size": self.batch_size, "image_size": self.image_size}
        given = {name: value for name, value in {**data, **settings}.items() if value is not None}
        if isinstance(data["data"], (str, Path)):
            return " ".join(["classmates train", *(f"--{name} {shlex.quote(str(given[name]))}" for name in given)])
        others = ", ".join(f"{name}={value!r}" for name, value in given.items() if name != "data")
        return f"classmates.train(data=..., {others})"


def suggest(data: ImageData, images: pd.DataFrame, image_size: int | None = None) -> Suggestion:
    """Return what ``train`` chooses by itself for these data, where published weights can be had.

    Args:
        data: the data set as it would be trained on.
        images: what ``scan`` found, with the sizes that the images have in their files.
        image_size: where the user has chosen it.
    """
    count = len(data.train)
    if image_size is None and (usual := usual_size(images[["width", "height"]].to_numpy())) != data.image_size:
        image_size = max(usual)
    pixels = image_size or max(data.image_size)
    pretrained = pixels > SMALL and count < MANY
    found = Situation(count, pixels, pretrained)
    recipe = recipe_for(found)
    model = default_model(pixels, count)
    settings = recipe.settings(found)
    crop_scale = settings.get("crop_scale") if data.train.images is None else None
    return Suggestion(
        recipe.name, model, found.batch_size, int(settings["epochs"]), image_size, pretrained, crop_scale
    )
