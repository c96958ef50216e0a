"""JPEGs in colour, decoded by the fastest decoder that is installed: all of them give the same pixels."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import version

import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode
from torchvision.io import decode_jpeg as torchvision_decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from classmates.data.parts import ImageFile
from classmates.data.readers.images import HUGE, decode
from classmates.data.readers.opening import loaded, opened

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

UPRIGHT = 1
"""The EXIF orientation of an image that needs no turning."""


def decoder() -> str:
    """Return the name and version of what decodes upright JPEGs in colour: simplejpeg where it is installed."""
    name = "torchvision" if simplejpeg is None else "simplejpeg"
    return f"{name} {version(name)}"


def decode_fast(file: ImageFile, channels: int) -> Tensor:
    """Decode an image like ``decode``, to uint8 [C, H, W].

    Colour JPEGs are decoded by simplejpeg where it is installed and they are upright, else by torchvision: the same
    to the bit, in half and two thirds of Pillow's time.

    Raises:
        UnreadableImage: as in ``decode``.
    """
    if channels == 3 and not isinstance(file, Image.Image):
        file = loaded(file)
        with opened(file) as image:  # the head alone: no more than its size, format and orientation are known
            usual_jpeg = image.format in ("JPEG", "MPO") and image.width * image.height <= HUGE
            upright = usual_jpeg and image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT
        if usual_jpeg:
            with suppress(RuntimeError, ValueError):  # Pillow may know better; if not, it says which file it is
                return _decode(file.content, upright)
    return transforms.pil_to_tensor(decode(file, channels))


def _decode(content: bytes, upright: bool) -> Tensor:
    """Decode a JPEG to RGB, turned upright; RuntimeError or ValueError where anything is unusual about it."""
    if upright and simplejpeg is not None:
        return torch.from_numpy(simplejpeg.decode_jpeg(content)).permute(2, 0, 1)
    encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return torchvision_decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True)
