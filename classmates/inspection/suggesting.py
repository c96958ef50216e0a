"""Suggested settings for a data set: a network, a batch size, an image size."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from classmates.data.parts import ImageData
from classmates.data.readers.listing import IN_MEMORY, usual_size

MANY = 100_000
"""From so many training images on, large networks learn enough from them alone."""
STEPS = 20
"""An epoch should have so many steps, or more."""


@dataclass(frozen=True)
class Suggestion:
    """Settings of ``train`` to begin with; as text, the flags.

    image_size: None where the images' own is right.
    """

    model: str
    batch_size: int
    image_size: int | None = None
    pretrained: bool = False

    def __str__(self) -> str:
        flags = f"--model {self.model} --batch_size {self.batch_size}"
        flags += f" --image_size {self.image_size}" if self.image_size else ""
        return flags + (" --pretrained true" if self.pretrained else "")


def suggest(data: ImageData, images: pd.DataFrame, image_size: int | None = None) -> Suggestion:
    """Return a first choice by image size and number of training images, no more than a rule of thumb.

    ========================  =================  ======================================
    pixels                    training images    network
    ========================  =================  ======================================
    up to 16                  any                resnet8
    up to 64                  under 10,000       resnet20
    up to 64                  10,000 or more     resnet32
    more                      under 100,000      resnet18 of timm's, its published weights to begin with
    more                      100,000 or more    resnet50 of timm's
    ========================  =================  ======================================

    The image size is the one that ``usual_size`` says, which ``load`` takes by itself for images from files.

    The batch is the largest of 24, 48 and 96 that leaves 20 steps an epoch or more, 192 from 100,000 images on: all
    suit every method, those that need triplets too.

    Args:
        data: the data set as it would be trained on.
        images: what ``scan`` found, with the sizes that the images have in their files.
        image_size: where the user has chosen it.
    """
    count = len(data.train)
    if image_size is None and (usual := usual_size(images[["width", "height"]].to_numpy())) != data.image_size:
        image_size = max(usual)
    pixels = image_size or max(data.image_size)
    batch_size = 192 if count >= MANY else max((size for size in (24, 48, 96) if size * STEPS <= count), default=24)
    if pixels <= IN_MEMORY:
        model = "resnet8" if pixels <= 16 else "resnet20" if count < 10_000 else "resnet32"
        return Suggestion(model, batch_size, image_size)
    few = count < MANY
    return Suggestion("resnet18" if few else "resnet50", batch_size, image_size, pretrained=few)
