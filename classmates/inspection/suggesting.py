"""Suggested settings for a data set: a network, a batch size, an image size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from classmates.data.parts import ImageData
from classmates.data.readers.listing import IN_MEMORY, STREAMED

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

    The image size is the images' own where all are alike. Else it is 32 or 64 where none is larger than 64, 128
    where the shorter side of half of them is below 160, and otherwise 224.

    The batch is the largest of 24, 48 and 96 that leaves 20 steps an epoch or more, 192 from 100,000 images on: all
    suit every method, those that need triplets too.

    Args:
        data: the data set as it would be trained on.
        images: what ``scan`` found, with the sizes that the images have in their files.
        image_size: where the user has chosen it.
    """
    count = len(data.train)
    if image_size is None and (better := _image_size(images)) and data.image_size != (better, better):
        image_size = better
    pixels = image_size or max(data.image_size)
    batch_size = 192 if count >= MANY else max((size for size in (24, 48, 96) if size * STEPS <= count), default=24)
    if pixels <= IN_MEMORY:
        model = "resnet8" if pixels <= 16 else "resnet20" if count < 10_000 else "resnet32"
        return Suggestion(model, batch_size, image_size)
    few = count < MANY
    return Suggestion("resnet18" if few else "resnet50", batch_size, image_size, pretrained=few)


def _image_size(images: pd.DataFrame) -> int | None:
    """Return the pixels of the square; None where the images' own size is right."""
    sides = images[["width", "height"]].to_numpy()  # [N, 2]
    longest, typical = sides.max(), np.median(sides.min(axis=1))
    if longest <= IN_MEMORY:
        alike = (sides == sides[0]).all()
        return None if alike else 32 if typical <= 32 else IN_MEMORY
    if longest <= STREAMED and (sides == longest).all():
        return None
    return 128 if typical < 160 else STREAMED
