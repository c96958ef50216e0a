"""Image files as upright images of eight bits, grey or RGB, whatever they were stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from multiprocessing.pool import ThreadPool
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION
from torch import Tensor

from classmates._machine import usable_cores
from classmates._progress import bar
from classmates.data.parts import Files, ImageFile
from classmates.data.readers.opening import UnreadableImage, opened
from classmates.data.resizing import fit

IN_MEMORY = 64
"""Images with no side above this many pixels are kept in memory."""

HUGE = 1 << 25
"""The pixels above which a JPEG is decoded at a half, a quarter or an eighth of its size: it would take seconds."""

HUGE_SIDE = 2048
"""The pixels that its shorter side then has at least."""

Out = TypeVar("Out")

AT_ONCE = 4096
"""The number of images that are handed to the threads that read them before they are waited for."""

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of images without colour."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image is turned upright, by its orientation; 1 is upright."""

METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps what may say that an image is to be turned."""


class Check(NamedTuple):
    """The findings of reading an image once.

    size: (width, height), upright. grey: whether it is stored without colour. frames: how many frames (or pages) the
    file has; the first is the image. highest: the highest value of an image of 16-bit grey, 0 of others. moments:
    [2, C], the mean of its pixels and of their squares in 0..1. pixels: [H, W, C], uint8, where they are kept.
    """

    size: tuple[int, int]
    grey: bool
    frames: int
    highest: int
    moments: np.ndarray
    pixels: np.ndarray | None = None


class Checks(NamedTuple):
    """The checks of N images, as tensors: sizes [N, 2], grey [N], frames [N], highest [N], moments [N, 2, C]; all 0
    for an image that cannot be read."""

    sizes: Tensor
    grey: Tensor
    frames: Tensor
    highest: Tensor
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

    EXIF rotation is applied, transparency is put on white, 16-bit values are scaled by 1/257, and turned where the
    file says that zero is white. Of several frames or pages, the first is taken. A huge JPEG is decoded at a fraction
    of its size.

    Raises:
        UnreadableImage: naming the path and what is wrong.
    """
    with opened(path) as image:
        if image.width * image.height > HUGE and not isinstance(path, Image.Image):  # which is the caller's
            image.draft(None, (HUGE_SIDE, HUGE_SIDE))
        return convert(upright(image), channels)


def upright(image: Image.Image) -> Image.Image:
    """Return an opened image as it is to be seen: turned as its EXIF says, and zeros black.

    Pillow turns the values of a TIFF whose zeros are white, as X-rays have them, but not those of 16 bits. Its own
    ``exif_transpose`` writes all of the EXIF anew, and fails where any of it is malformed.
    """
    image.load()  # some formats have their EXIF after the pixels
    turned = image
    if (orientation := orientation_of(image)) in TURNS:
        turned = image.transpose(TURNS[orientation])
        for key in METADATA:  # or it would be turned again if it were read again
            turned.info.pop(key, None)
    tags = getattr(image, "tag_v2", {})  # which only a TIFF has
    if image.mode.startswith("I;16") and tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # zeros are white
        return Image.fromarray(65535 - np.asarray(turned))
    return turned


def orientation_of(image: Image.Image) -> int:
    """Return how an opened image lies, as its EXIF or XMP says: one of TURNS, or 1, upright."""
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in TURNS else 1


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
            grey, frames = image.mode in GREY_MODES, getattr(image, "n_frames", 1)
            width, height = image.size
            keep = size is not None or max(image.size) <= IN_MEMORY
            if not keep and not isinstance(path, Image.Image):
                image.draft(None, (256, 256))
            stored = image.size
            shown = upright(image)
            highest = int(np.asarray(shown).max()) if shown.mode.startswith("I") else 0
            shown = convert(shown, channels)
            if shown.size != stored:  # it was turned, if not before: Pillow opens some formats upright
                width, height = height, width
    except UnreadableImage as error:
        return error
    if keep:
        pixels = np.atleast_3d(np.asarray(shown if size is None else fit(shown, size)))
        values = pixels.reshape(-1, channels) / 255
        moments = np.stack([values.mean(0), np.square(values).mean(0)])
        return Check((width, height), grey, frames, highest, moments, pixels)
    histogram = np.array(shown.histogram()).reshape(channels, 256)
    share = histogram / histogram.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    return Check((width, height), grey, frames, highest, np.stack([share @ values, share @ values**2]))


def _checked(files: Files, index: int, channels: int, size: tuple[int, int] | None = None) -> Check | UnreadableImage:
    """Run ``check`` for one of many files, which may have to be read already where it is asked for."""
    try:
        file = files[index]
    except UnreadableImage as error:
        return error
    return check(file, channels, size)


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
        highest=torch.zeros(count, dtype=torch.int32),
        moments=torch.zeros(count, 2, channels, dtype=torch.float64),
    )
    arrays = [column.numpy() for column in checks]
    first = _checked(files, 0, channels) if count else None
    threads = not (isinstance(first, Check) and max(first.size) <= IN_MEMORY)  # else they cost more than they give
    images: np.ndarray | None = None
    alike = True  # so far
    results = for_all(lambda index: _checked(files, index, channels, size), count, "reading the images", threads)
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
    found = (_checked(files, index, channels) for index in (~checks.readable).nonzero()[:, 0].tolist())
    return [error for error in found if isinstance(error, UnreadableImage)]


def stack(images: Iterable[Image.Image]) -> Tensor:
    """Stack grey or RGB images of one size as [N, H, W, C], uint8."""
    return torch.from_numpy(np.stack([np.atleast_3d(np.asarray(image)) for image in images]))


def for_all(function: Callable[[int], Out], count: int, title: str, threads: bool = True) -> Iterator[Out]:
    """Return the function's results for 0, 1, ... in order, with a progress bar where it takes long.

    Decoders run outside Python's lock, so threads use every core.
    """
    results = _with_threads(function, count) if threads else map(function, range(count))
    yield from bar(results, title, "image", count)


def _with_threads(function: Callable[[int], Out], count: int) -> Iterator[Out]:
    """Return a few thousand are under way at once, however many there are."""
    with ThreadPool(usable_cores()) as pool:
        for start in range(0, count, AT_ONCE):
            yield from pool.imap(function, range(start, min(start + AT_ONCE, count)), chunksize=16)
