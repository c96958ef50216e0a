"""JPEGs in colour, decoded by the fastest decoder that is installed: all of them give the same pixels."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from classmates.data.parts import ImageFile
from classmates.data.readers.images import HUGE, decode, orientation_of
from classmates.data.readers.opening import PIXEL_LIMIT, loaded, opened

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

EXIF, XMP = b"Exif\0", b"http://ns.adobe.com/xap/"
"""The beginnings of the two kinds of metadata that may say that an image is to be turned."""

SAME_COLOURS = ("YCbCr", "Gray")
"""The colour spaces that simplejpeg converts to RGB as the others do; its CMYK differs from theirs by one."""


FLIPPED = {2: (2,), 3: (1, 2), 4: (1,), 6: (1,), 7: (1, 2), 8: (2,)}
"""The dimensions of [C, H, W] that are turned round first, by EXIF's orientation; 1 is upright."""

TRANSPOSED = (5, 6, 7, 8)
"""The orientations of which height and width are then exchanged."""


def decoder() -> str:
    """Return the name and version of what decodes plain JPEGs in colour: simplejpeg where it is installed."""
    name = "torchvision" if simplejpeg is None else "simplejpeg"
    return f"{name} {version(name)}"


def decode_fast(file: ImageFile, channels: int) -> Tensor:
    """Decode an image like ``decode``, to uint8 [C, H, W].

    Colour JPEGs are decoded by simplejpeg where it is installed and they have no metadata, else by torchvision: the
    same to the bit, in half and two thirds of Pillow's time. How they are to be turned, Pillow says.

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
            told = EXIF in file.content or XMP in file.content  # torchvision reads but some of what Pillow does
            orientation = orientation_of(image) if usual_jpeg and told else 1
        if usual_jpeg:
            with suppress(RuntimeError):  # Pillow may know better; if not, it says which file it is
                encoded = torch.frombuffer(bytearray(file.content), dtype=torch.uint8)
                return turned(decode_jpeg(encoded, ImageReadMode.RGB), orientation)
    return transforms.pil_to_tensor(decode(file, channels))


def turned(pixels: Tensor, orientation: int) -> Tensor:
    """Return an image, [C, H, W], as it is to be seen, by the orientation that EXIF gives it."""
    flipped = pixels.flip(FLIPPED.get(orientation, ()))
    return flipped.transpose(1, 2).contiguous() if orientation in TRANSPOSED else flipped


def is_plain(content: bytes) -> bool:
    """Return whether simplejpeg is installed and gives the others' pixels of this JPEG: upright, of a usual size.

    Raises:
        ValueError: it is no JPEG.
    """
    if simplejpeg is None or PIXEL_LIMIT in os.environ or EXIF in content or XMP in content:
        return False
    height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    return colours in SAME_COLOURS and height * width <= min(HUGE, Image.MAX_IMAGE_PIXELS or HUGE)
