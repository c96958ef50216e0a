"""Image files, read rightly: upright, eight bits, grey or RGB, whatever they were stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from classmates.errors import UserError

In = TypeVar("In")
Out = TypeVar("Out")

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations that exchange width and height


class UnreadableImage(UserError):
    """The file is no image, or is cut off or damaged; the message names it and says why."""


class Check(NamedTuple):
    """What reading an image once has shown.

    size: (width, height), upright. grey: whether it is stored without colour. moments: [2, C], the mean of its
    pixels and of their squares in 0..1.
    """

    size: tuple[int, int]
    grey: bool
    moments: np.ndarray


def decode(path: Path, channels: int) -> Image.Image:
    """Read an image file whole: mode "L" for one channel, "RGB" for three.

    EXIF rotation is applied, transparency is put on white, 16-bit values are scaled by 1/257.

    Raises:
        UnreadableImage: naming the path and what is wrong.
    """
    with _opened(path) as image:
        return convert(ImageOps.exif_transpose(image), channels)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Bring an image of any mode to mode "L" (one channel) or "RGB" (three); see ``decode``.

    Raises:
        ValueError: its pixels have no agreed meaning as 8-bit values (floats, or integers beyond 16 bits).
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, of which none is agreed to be white")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its pixels go from {values.min()} to {values.max()}, beyond 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def check(path: Path, channels: int) -> Check | UnreadableImage:
    """Read an image whole, so that a damaged one is found before training, and keep what is worth knowing.

    A JPEG of 512 pixels or more is decoded at a fraction of its size, which still reads all of the file.
    """
    try:
        with _opened(path) as image:
            grey = image.mode in _GREY_MODES
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
                width, height = height, width
            image.draft(None, (256, 256))
            histogram = np.array(convert(image, channels).histogram()).reshape(channels, 256)
    except UnreadableImage as error:
        return error
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return Check((width, height), grey, np.stack([share @ values, share @ values**2]))


def check_all(paths: Sequence[Path], channels: int) -> list[Check | UnreadableImage]:
    """``check`` for many files at once, in their order, with a progress bar where it takes long."""
    return list(_with_threads(lambda path: check(path, channels), paths, "checking the images"))


def read_all(paths: Sequence[Path], channels: int, size: tuple[int, int]) -> Tensor:
    """Read many small images into memory, fitted to a size (height, width): [N, H, W, C], uint8."""
    return stack(_with_threads(lambda path: fit(decode(path, channels), size), paths, "reading the images"))


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of an image at a size (height, width), scaled so that it fills it; as it is if it has that size."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    scaled = [max(height, round(image.height * scale)), max(width, round(image.width * scale))]
    return transforms.center_crop(transforms.resize(image, scaled), [height, width])


def stack(images: Iterable[Image.Image]) -> Tensor:
    """Grey or RGB images of one size as [N, H, W, C], uint8."""
    return torch.from_numpy(np.stack([np.atleast_3d(np.asarray(image)) for image in images]))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # on damaged files the decoders raise whatever they stumble over
        raise UnreadableImage(f"cannot read the image {path}: {error or type(error).__name__}") from error


def _with_threads(function: Callable[[In], Out], items: Sequence[In], title: str) -> Iterator[Out]:
    """The function's results in order. Decoders run outside Python's lock, so threads use every core."""
    with ThreadPool() as pool:
        yield from tqdm(pool.imap(function, items, chunksize=16), title, len(items), delay=2, unit="image")
