"""Image files opened: only regular files, of the documented formats, and of no more pixels than are allowed."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock

from PIL import Image, UnidentifiedImageError, features

from classmates._files import require_regular
from classmates.data.parts import Encoded, ImageFile
from classmates.errors import UserError

try:
    import pillow_heif
except ImportError:  # not there, or without the libraries that it needs
    pillow_heif = None  # type: ignore[assignment]

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}
"""The formats that are read, by Pillow's names, the commonest first, with the extensions of their files.

Every other one is refused, whatever a file is called: Pillow would hand some (EPS) to another program.
"""
if "avif" in features.modules and features.check("avif"):  # Pillow 11.3, where it was built with it
    FORMATS["AVIF"] = (".avif",)

HEIF = (".heic", ".heif")
"""The extensions of what iPhones take, which is read where pillow-heif is installed."""
if pillow_heif is not None:
    pillow_heif.register_heif_opener()
    FORMATS["HEIF"] = HEIF

EXTENSIONS = tuple(extension for extensions in FORMATS.values() for extension in extensions)
"""The extensions of image files."""

NO_HEIF = "HEIC, which is read where pillow-heif is installed (pip install 'classmates[heic]')"
"""What files with those extensions are where it is not."""

# Pillow warns of images above its limit, which are refused here in words.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

PIXEL_LIMIT = "CLASSMATES_MAX_IMAGE_PIXELS"
"""The environment variable that allows larger images than Pillow does, which takes them for decompression bombs."""


class UnreadableImage(UserError):
    """The file is no image, or is cut off or damaged; the message names it and says why."""


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
_callers = Lock()
"""Held while a caller's image, pixels and EXIF, is read: it may be given several times, and so to several threads."""


@contextmanager
def opened(file: ImageFile) -> Iterator[Image.Image]:
    """Open an image as it is stored; whatever goes wrong within is an UnreadableImage that names it."""
    with _pixel_limit:
        try:
            with _open(file) as image:
                pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
                if limit and pixels > limit:  # Pillow itself warns, and refuses what is twice as large
                    raise Image.DecompressionBombError(
                        f"Image size ({pixels} pixels) exceeds limit of {limit} pixels"
                    )
                if image is file:
                    with _callers:
                        image.load()
                        image.getexif()
                yield image
        except Exception as error:  # on damaged files the decoders raise whatever they stumble over
            raise UnreadableImage(f"cannot read the image {file}: {_reason(file, error)}") from error


def is_unread_heif(name: str) -> bool:
    """Return whether a file of this name is a HEIC photo and nothing is installed to read it."""
    return "HEIF" not in FORMATS and name.lower().endswith(HEIF)


def loaded(file: Path | Encoded) -> Encoded:
    """Return an image file with its bytes in memory, under the same name; errors as in ``opened``."""
    if isinstance(file, Encoded):
        return file
    try:
        require_regular(file)
        return Encoded(str(file), file.read_bytes())
    except OSError as error:
        raise UnreadableImage(f"cannot read the image {file}: {_reason(file, error)}") from error


def _open(file: ImageFile) -> AbstractContextManager[Image.Image]:
    if isinstance(file, Image.Image):
        return nullcontext(file)
    if isinstance(file, Encoded):
        return Image.open(io.BytesIO(file.content), formats=list(FORMATS))
    require_regular(file)
    return Image.open(file, formats=list(FORMATS))


def _reason(file: ImageFile, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        said = str(error).rstrip(".")
        return f"{said}; make it smaller or, if you trust it, set the environment variable {PIXEL_LIMIT} higher"
    if isinstance(error, UnidentifiedImageError) and is_unread_heif(str(file)):
        return f"it is {NO_HEIF}"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of the formats that are read, {', '.join(FORMATS)}"
    if isinstance(error, FileNotFoundError) and isinstance(file, Path) and file.is_symlink():
        return f"it is a link to {os.readlink(file)}, which does not exist"
    return str(error) or type(error).__name__
