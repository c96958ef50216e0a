"""Image files as upright images of eight bits, grey or RGB, whatever they were stored as."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from classmates.data.parts import Encoded, Files, ImageFile
from classmates.errors import UserError

EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".apng")
"""The extensions of image files."""

PIXEL_LIMIT = "CLASSMATES_MAX_IMAGE_PIXELS"
"""The environment variable that allows larger images than Pillow does, which takes them for decompression bombs."""

IN_MEMORY = 64
"""Images with no side above this many pixels are kept in memory."""

Out = TypeVar("Out")

AT_ONCE = 4096
"""The number of images that are handed to the threads that read them before they are waited for."""

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_USUAL = ("JPEG", "PNG", "WEBP")  # tried first: of the others Pillow tries many, which takes longer than decoding
_SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations that exchange width and height


class PixelLimit:
    """The number of pixels that Pillow allows an image to have, set while any thread is within, and then set back.

    Without the environment variable Pillow's own limit, 89 million, is left as it is.

    Raises UserError where the variable is no number.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.within = 0
        self.before: int | None = None

    def __enter__(self) -> None:
        text = os.environ.get(PIXEL_LIMIT, "")
        if text and not text.isdecimal():
            raise UserError(f"the environment variable {PIXEL_LIMIT} is '{text}'; give a number of pixels")
        with self.lock:
            if self.within == 0:
                self.before = Image.MAX_IMAGE_PIXELS
            self.within += 1
            if text:
                Image.MAX_IMAGE_PIXELS = int(text)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.within -= 1
            if self.within == 0:
                Image.MAX_IMAGE_PIXELS = self.before


_pixel_limit = PixelLimit()


class UnreadableImage(UserError):
    """The file is no image, or is cut off or damaged; the message names it and says why."""


class Check(NamedTuple):
    """The findings of reading an image once.

    size: (width, height), upright. grey: whether it is stored without colour. frames: how many frames (or pages) the
    file has; the first is the image. moments: [2, C], the mean of its pixels and of their squares in 0..1. pixels:
    [H, W, C], uint8, where they are kept.
    """

    size: tuple[int, int]
    grey: bool
    frames: int
    moments: np.ndarray
    pixels: np.ndarray | None = None


class Checks(NamedTuple):
    """The checks of N images, as tensors: sizes [N, 2], grey [N], frames [N], moments [N, 2, C]; all 0 for an image
    that cannot be read."""

    sizes: Tensor
    grey: Tensor
    frames: Tensor
    moments: Tensor

    @property
    def readable(self) -> Tensor:
        """[N] booleans."""
        return self.frames > 0

    def take(self, indices: Tensor) -> Checks:
        """Return the checks of these images, by index or as booleans."""
        return Checks(*(column[indices] for column in self))


def decode(path: ImageFile, channels: int) -> Image.Image:
    """Read an image file whole: mode "L" for one channel, "RGB" for three.

    EXIF rotation is applied, transparency is put on white, 16-bit values are scaled by 1/257. Of several frames or
    pages, the first is taken.

    Raises:
        UnreadableImage: naming the path and what is wrong.
    """
    with opened(path) as image:
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


def check(path: ImageFile, channels: int, size: tuple[int, int] | None = None) -> Check | UnreadableImage:
    """Read an image whole, so that a damaged one is found before training, and keep what is worth knowing.

    The pixels of a small image are kept as well, and those of any image that is to be fitted to a ``size`` (height,
    width). Other JPEGs of 512 pixels or more are decoded at a fraction of their size, which still reads all of the
    file.
    """
    try:
        with opened(path) as image:
            grey, frames = image.mode in _GREY_MODES, getattr(image, "n_frames", 1)
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
                width, height = height, width
            keep = size is not None or max(image.size) <= IN_MEMORY
            if not keep:
                image.draft(None, (256, 256))
            upright = convert(ImageOps.exif_transpose(image), channels)
    except UnreadableImage as error:
        return error
    if keep:
        pixels = np.atleast_3d(np.asarray(upright if size is None else fit(upright, size)))
        values = pixels.reshape(-1, channels) / 255
        return Check((width, height), grey, frames, np.stack([values.mean(0), np.square(values).mean(0)]), pixels)
    histogram = np.array(upright.histogram()).reshape(channels, 256)
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return Check((width, height), grey, frames, np.stack([share @ values, share @ values**2]))


def check_all(files: Files, channels: int, size: tuple[int, int] | None = None) -> tuple[Checks, Tensor | None]:
    """Run ``check`` for many files at once, with a progress bar where it takes long.

    Returns:
        The checks, and the pixels [N, H, W, C], uint8, if they were kept of every image that can be read and are of
        one size; those of an image that cannot be read are undefined.
    """
    count = len(files)
    checks = Checks(
        sizes=torch.zeros(count, 2, dtype=torch.int32),
        grey=torch.zeros(count, dtype=torch.bool),
        frames=torch.zeros(count, dtype=torch.int32),
        moments=torch.zeros(count, 2, channels, dtype=torch.float64),
    )
    arrays = [column.numpy() for column in checks]
    first = check(files[0], channels) if count else None
    threads = not (isinstance(first, Check) and max(first.size) <= IN_MEMORY)  # else they cost more than they give
    images: np.ndarray | None = None
    alike = True  # so far
    results = for_all(lambda index: check(files[index], channels, size), count, "reading the images", threads)
    for index, found in enumerate(results):
        if not isinstance(found, Check):
            continue
        *values, pixels = found
        for array, value in zip(arrays, values, strict=True):
            array[index] = value
        if images is None and alike and pixels is not None:
            images = np.empty((count, *pixels.shape), dtype=np.uint8)
        if images is None or pixels is None or pixels.shape != images.shape[1:]:
            images, alike = None, False
        else:
            images[index] = pixels
    return checks, None if images is None else torch.from_numpy(images)


def unreadable(files: Files, checks: Checks, channels: int) -> list[UnreadableImage]:
    """Return why images cannot be read; these few are read again, so that checks are numbers alone."""
    found = (check(files[index], channels) for index in (~checks.readable).nonzero()[:, 0].tolist())
    return [error for error in found if isinstance(error, UnreadableImage)]


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an image so that it fills a size (height, width), and crop its middle; as it is if it has that size."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    scaled = [max(height, round(image.height * scale)), max(width, round(image.width * scale))]
    return transforms.center_crop(transforms.resize(image, scaled), [height, width])


def stack(images: Iterable[Image.Image]) -> Tensor:
    """Stack grey or RGB images of one size as [N, H, W, C], uint8."""
    return torch.from_numpy(np.stack([np.atleast_3d(np.asarray(image)) for image in images]))


def for_all(function: Callable[[int], Out], count: int, title: str, threads: bool = True) -> Iterator[Out]:
    """Return the function's results for 0, 1, ... in order, with a progress bar where it takes long.

    Decoders run outside Python's lock, so threads use every core.
    """
    results = _with_threads(function, count) if threads else map(function, range(count))
    with tqdm(total=count, desc=title, delay=2, unit="image", leave=False) as progress:
        for result in results:
            progress.update()
            yield result


def _with_threads(function: Callable[[int], Out], count: int) -> Iterator[Out]:
    """Return a few thousand are under way at once, however many there are."""
    with ThreadPool() as pool:
        for start in range(0, count, AT_ONCE):
            yield from pool.imap(function, range(start, min(start + AT_ONCE, count)), chunksize=16)


@contextmanager
def opened(path: ImageFile) -> Iterator[Image.Image]:
    """Open an image as it is stored; whatever goes wrong within is an UnreadableImage that names it."""
    with _pixel_limit:
        try:
            with _open(path) as image:
                pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
                if limit and pixels > limit:  # Pillow itself warns, and refuses what is twice as large
                    raise Image.DecompressionBombError(
                        f"Image size ({pixels} pixels) exceeds limit of {limit} pixels"
                    )
                yield image
        except Exception as error:  # on damaged files the decoders raise whatever they stumble over
            raise UnreadableImage(f"cannot read the image {path}: {_reason(path, error)}") from error


def _open(file: ImageFile) -> AbstractContextManager[Image.Image]:
    if isinstance(file, Image.Image):
        return nullcontext(file)
    content = io.BytesIO(file.content) if isinstance(file, Encoded) else file
    try:
        return Image.open(content, formats=_USUAL)
    except UnidentifiedImageError:
        return Image.open(content)


def _reason(path: ImageFile, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        said = str(error).rstrip(".")
        return f"{said}; make it smaller or, if you trust it, set the environment variable {PIXEL_LIMIT} higher"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or of a format that cannot be read"
    if isinstance(error, FileNotFoundError) and isinstance(path, Path) and path.is_symlink():
        return f"it is a link to {os.readlink(path)}, which does not exist"
    return str(error) or type(error).__name__
