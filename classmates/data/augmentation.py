"""Random crops and mirrored images for a whole batch at once, in eight bits until the last moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from classmates.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """How training images kept in memory are varied: shifted by up to ``crop_padding`` pixels, and mirrored.

    Larger images, which are read when needed, are cropped at random sizes instead (``RandomResizedCrop``); of these
    settings only ``flip`` is theirs.

    Args:
        crop_padding: pixels added on each side before an image is cropped to its size at random. Default: 4 where
            both sides have 24 pixels or more, 1 for smaller images; 0 crops nothing.
        flip: mirror half of the images. Default: where the data set says that it is right (not for digits).
        fill: grey value of the added pixels, 0 (black) to 255; the CORSD paper's released code uses 128.

    Raises:
        UserError: a value out of range.
    """

    crop_padding: int | None = None
    flip: bool | None = None
    fill: int = 0

    def __post_init__(self) -> None:
        if self.crop_padding is not None and self.crop_padding < 0:
            raise UserError(f"crop_padding is {self.crop_padding}; give a number of pixels, 0 for no random crop")
        if not 0 <= self.fill <= 255:
            raise UserError(f"fill is {self.fill}; grey values go from 0 (black) to 255 (white)")

    def padding(self, image_size: tuple[int, int]) -> int:
        """Pixels on each side for images of a size (height, width).

        Raises:
            UserError: a crop could miss the image altogether.
        """
        if self.crop_padding is None:
            return 4 if min(image_size) >= 24 else 1
        if self.crop_padding >= min(image_size):
            raise UserError(
                f"crop_padding is {self.crop_padding}, but the images are {image_size[0]}x{image_size[1]} pixels: "
                f"give less than {min(image_size)}"
            )
        return self.crop_padding


class Draws(NamedTuple):
    """What is done to each of n images, [n] each: the crop's top and left, from 0; mirrored, 255 (yes) or 0 (no)."""

    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(count: int, padding: int, flip: bool, generator: torch.Generator) -> Draws:
    """Draw the crops and flips of ``count`` images."""
    top = torch.randint(2 * padding + 1, (count,), generator=generator)
    left = torch.randint(2 * padding + 1, (count,), generator=generator)
    mirrored = torch.randint(2 if flip else 1, (count,), generator=generator)
    return Draws(top, left, (mirrored * 255).to(torch.uint8))


def crop_windows(images: Tensor, padding: int, fill: int) -> Tensor:
    """Every crop of every image [N, H, W, C], by image, top and left: [N, 2p+1, 2p+1, C, H, W].

    A view: only the padded images take memory.
    """
    height, width = images.shape[1:3]
    padded = F.pad(images.permute(0, 3, 1, 2).contiguous(), (padding,) * 4, value=fill)
    return padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)


def crop_and_flip(windows: Tensor, indices: Tensor, draws: Draws) -> Tensor:
    """The images of these indices, cropped and mirrored as drawn: [B, C, H, W], uint8; indices and draws: [B]."""
    images = windows[indices, draws.top, draws.left]
    # Chosen bit by bit: mirrored where all bits of ``mirrored`` are set. Ten times faster than torch.where in uint8.
    return images ^ ((images ^ images.flip(3)) & draws.mirrored.view(-1, 1, 1, 1))


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images/255 − mean)/std as float32: [B, C, H, W] in uint8; mean and std: [C, 1, 1], float32."""
    return images.float().mul_(1 / (255 * std)).sub_(mean / std)
