"""Any map-style dataset of (image, label) as a data set in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from classmates._names import name_of_class
from classmates._progress import bar
from classmates.data.parts import Source, Split, moments_of
from classmates.data.readers.images import GREY_MODES, convert, stack, upright
from classmates.data.resizing import fit
from classmates.errors import UserError


def read_dataset(dataset: Dataset[Any], *, image_size: int | None, channels: int | None) -> Source:
    """Read every item of a dataset once, without random augmentation, and keep the images in memory as uint8.

    An item is (image, label). The image: a PIL image, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W];
    uint8, or floats in 0..1. The label: a whole number from 0. ``dataset.classes`` names the classes if there is one.

    A PIL image is turned as its EXIF says, as files are.

    Raises:
        UserError: an item is something else or cannot be read, or the images differ in size and no image size is
            given.
    """
    if not hasattr(dataset, "__len__"):
        raise UserError(f"{type(dataset).__name__} has no length: give a map-style dataset of (image, label)")
    images, labels = [], []
    for index in bar(range(len(dataset)), "reading the images", "image"):
        item = dataset[index]
        if not (isinstance(item, Sequence) and len(item) == 2):
            raise UserError(f"item {index} of the dataset is a {type(item).__name__}; it must be (image, label)")
        image = _eight_bits(_picture(item[0], index), channels, index)
        images.append(image if image_size is None else fit(image, (image_size, image_size)))
        labels.append(_label(item[1], index))
    if not images:
        raise UserError(f"the dataset {type(dataset).__name__} is empty")

    sizes = {image.size for image in images}
    if image_size is None and len(sizes) > 1:
        raise UserError(f"the dataset's images have {len(sizes)} different sizes: give an image_size")
    if channels is None:
        channels = 1 if all(image.mode == "L" for image in images) else 3
    width, height = sizes.pop()
    pixels = stack(convert(image, channels) for image in images)
    return Source(
        name=type(dataset).__name__,
        image_size=(height, width),
        moments={"train": moments_of(pixels)},
        train=Split(torch.tensor(labels), pixels, class_names=_class_names(dataset, labels)),
    )


def _eight_bits(image: Image.Image, channels: int | None, index: int) -> Image.Image:
    """Return an image upright, in as many channels as asked for or its own, of 8 bits each; its file is read."""
    try:
        own = 1 if image.mode in GREY_MODES else 3
        return convert(upright(image), channels or own)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"image {index} of the dataset cannot be read: {error}") from error


def _picture(image: Any, index: int) -> Image.Image:
    """Return an image of any kind as a PIL image."""
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, (torch.Tensor, np.ndarray)) or image.ndim not in (2, 3):
        raise UserError(
            f"image {index} of the dataset is a {type(image).__name__}; it must be a PIL image, an array [H, W] or "
            "[H, W, C], or a tensor [H, W] or [C, H, W]"
        )
    pixels = transforms.to_image(image).as_subclass(torch.Tensor)
    if pixels.is_floating_point():
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"image {index} of the dataset has values from {pixels.min():g} to {pixels.max():g}; floats must lie "
                "in 0..1: leave the normalisation out of the dataset's transform"
            )
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8 or pixels.shape[0] not in (1, 3, 4):
        raise UserError(
            f"image {index} of the dataset has {pixels.shape[0]} channels of {pixels.dtype}; "
            "there must be 1, 3 or 4, of uint8 or floats in 0..1"
        )
    return transforms.to_pil_image(pixels)


def _label(label: Any, index: int) -> int:
    try:
        number = int(label)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"label {index} of the dataset is {label!r}; it must be a whole number from 0") from error
    if number != label or number < 0:
        raise UserError(f"label {index} of the dataset is {label!r}; it must be a whole number from 0")
    return number


def _class_names(dataset: Dataset[Any], labels: list[int]) -> tuple[str, ...]:
    """Return the dataset's own names if it has some, else the numbers."""
    count = max(labels) + 1
    names = tuple(name_of_class(str(name)) for name in getattr(dataset, "classes", range(count)))
    if len(names) < count:
        raise UserError(f"the dataset names {len(names)} classes but has a label {count - 1}")
    return names
