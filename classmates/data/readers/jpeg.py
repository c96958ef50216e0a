"""JPEGs in colour, decoded by the fastest decoder that is installed: all of them give the same pixels."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version

import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from classmates.data.parts import ImageFile
from classmates.data.readers.images import HUGE, decode
from classmates.data.readers.opening import PIXEL_LIMIT, loaded, opened

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

EXIF, XMP = b"Exif\0", b"http://ns.adobe.com/xap/"
"""The beginnings of the two kinds of metadata that may say that an image is to be turned."""

SAME_COLOURS = ("YCbCr", "Gray")
"""The colour spaces that simplejpeg converts to RGB as the others do; its CMYK differs from theirs by one."""


def decoder() -> str:
    """Return the name and version of what decodes plain JPEGs in colour: simplejpeg where it is installed."""
    name = "torchvision" if simplejpeg is None else "simplejpeg"
    return f"{name} {version(name)}"


def decode_fast(file: ImageFile, channels: int) -> Tensor:
    """Decode an image like ``decode``, to uint8 [C, H, W].

    Colour JPEGs are decoded by simplejpeg where it is installed and they have no metadata, else by torchvision: the
    same to the bit, in half and two thirds of Pillow's time. Pillow decodes those that XMP may turn.

    Raises:
        UnreadableImage: as in ``decode``.
    """
    if channels == 3 and not isinstance(file, Image.Image):
        file = loaded(file)
        with suppress(RuntimeError, ValueError):  # no JPEG, or a damaged or unusual one: those below know better
            if is_plain(file.content):
                return torch.from_numpy(simplejpeg.decode_jpeg(file.content)).permute(2, 0, 1)
        with opened(file) as image:  # the head alone: no more than its size and format are known
            usual_jpeg = image.format in ("JPEG", "MPO") and image.width * image.height <= HUGE
            if usual_jpeg and XMP in file.content:  # torchvision knows EXIF alone, and that in the first block only
                usual_jpeg = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if usual_jpeg:
            with suppress(RuntimeError):  # Pillow may know better; if not, it says which file it is
                encoded = torch.frombuffer(bytearray(file.content), dtype=torch.uint8)
                return decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
    return transforms.pil_to_tensor(decode(file, channels))


def is_plain(content: bytes) -> bool:
    """Return whether simplejpeg is installed and gives the others' pixels of this JPEG: upright, of a usual size.

    Raises:
        ValueError: it is no JPEG.
    """
    if simplejpeg is None or PIXEL_LIMIT in os.environ or EXIF in content or XMP in content:
        return False
    height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    return colours in SAME_COLOURS and height * width <= min(HUGE, Image.MAX_IMAGE_PIXELS or HUGE)
