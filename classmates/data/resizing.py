"""Images brought to the size that a network gets, as evaluation and prediction do it."""

from __future__ import annotations

from typing import Any, TypeVar

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as transforms

from classmates.data.parts import Interpolation

LONGEST = 8
"""The length of an image, in its width, of which no more is looked at where the network gets a square."""

AnyImage = TypeVar("AnyImage", Tensor, Image.Image)


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an image bilinearly until it fills a size (height, width), and crop its middle; as it is if it has it."""
    height, width = size
    if image.size == (width, height):
        return image
    image = without_far_ends(image, size)
    scale = max(width / image.width, height / image.height)
    scaled = [max(height, round(image.height * scale)), max(width, round(image.width * scale))]
    return transforms.center_crop(transforms.resize(image, scaled), [height, width])


def crop_middle(image: Tensor, shorter: int, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize an image [C, H, W], uint8, so that its shorter side has so many pixels, and crop its middle.

    The longer side gets the whole number below its length times the same factor. Smaller images are antialiased.
    """
    image = without_far_ends(image, size)
    scaled = transforms.resize(image, [shorter], interpolation=InterpolationMode(interpolation))
    return transforms.center_crop(scaled, list(size))


def without_far_ends(image: AnyImage, size: tuple[int, int]) -> AnyImage:
    """Return the middle of an image that is far longer than a size (height, width) has use for; others as they are.

    Only the middle is seen in the end; but an image of one pixel by 300,000 would be enlarged as a whole before.
    """
    height, width = transforms.get_size(image)
    longest = LONGEST * max(size) * min(height, width) // min(size)
    if max(height, width) <= longest:
        return image
    return transforms.center_crop(image, [min(height, longest), min(width, longest)])


class PackedRandomResizedCrop(RandomResizedCrop):
    """torchvision's ``RandomResizedCrop`` of an image [C, H, W] in uint8: the same pixels in two thirds of the time.

    The rows of a crop lie apart in the image's memory. Packed, with the channels innermost as decoders give them,
    they are resized faster, and the result is packed likewise, so that a batch is stacked by copying whole images.
    """

    def transform(self, image: Tensor, params: dict[str, Any]) -> Tensor:
        """Crop and resize an image to ``size`` by the parameters that were drawn."""
        place = [params[name] for name in ("top", "left", "height", "width")]
        packed = transforms.crop(image, *place).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        return transforms.resize(packed, self.size, interpolation=self.interpolation, antialias=self.antialias)
