"""Augmentation of training images, a whole batch at once, in eight bits until the last step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from classmates._own_code import is_file_name
from classmates.data.batches.randomness import of_view, stream_seed
from classmates.data.policies import POLICIES, FromFile, OwnPolicy, PolicyName, copied, of_torchvision
from classmates.errors import UserError, unknown

ERASER = v2.RandomErasing(p=1.0, inplace=True)


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images: cropped and mirrored at random and, if asked for, more.

    Images kept in memory are shifted by up to ``crop_padding`` pixels; larger images, which are read when needed, are
    cropped at random sizes instead (``RandomResizedCrop``), and ``crop_padding`` and ``padding_mode`` are not theirs.
    Mixup and CutMix make images of two classes, with soft labels: methods that compare an image with others of its
    class, or keep something of every image, need images of one and refuse them.

    Args:
        crop_padding: pixels added on each side before a random crop, 0 for none. Default: 4; 1 where a side has
            fewer than 24 pixels.
        padding_mode: what is added: one grey, or the image mirrored at its edge.
        fill: grey value of the added pixels and of what a policy of torchvision's leaves empty, 0 (black) to 255;
            the CORSD paper's released code uses 128.
        flip: mirror half of the images. Default: not for digits and the like.
        cutout: side in pixels of a square, anywhere in each image, that is set to the mean colour; 0 for none
            (DeVries & Taylor, 2017).
        policy: further changes of colour and geometry: "RandAugment", "TrivialAugmentWide" or "AutoAugment" of
            torchvision, FILE.py:NAME for a transform of your own (or a class or function that makes it), or in Python
            the transform itself. In memory, eight neighbours in the epoch's random order are changed alike.
        crop_scale: least share of a larger image's area that a random crop keeps, above 0 and up to 1. Default: as
            the recipe has it, 0.6 or 0.35, and without one torchvision's 0.08.
        erasing: probability of a blank rectangle (Zhong et al., 2020).
        mixup: α of the Beta distribution by which each image is blended with another of its batch (Zhang et al.,
            2018); 0.2 to 1 is usual, 0 for none.
        cutmix: the same for a rectangle from another image (Yun et al., 2019); with both, one of the two is drawn
            for each batch.

    Raises:
        UserError: a value out of range.
    """

    crop_padding: int | None = None
    padding_mode: Literal["constant", "reflect"] = "constant"
    fill: int = 0
    flip: bool | None = None
    cutout: int = 0
    policy: PolicyName | str | nn.Module | None = None
    crop_scale: float | None = None
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding is not None and self.crop_padding < 0:
            raise UserError(f"crop_padding is {self.crop_padding}; give a number of pixels, 0 for no random crop")
        if self.padding_mode not in ("constant", "reflect"):
            raise unknown("padding_mode", self.padding_mode, ("constant", "reflect"))
        if not 0 <= self.fill <= 255:
            raise UserError(f"fill is {self.fill}; grey values go from 0 (black) to 255 (white)")
        if self.cutout < 0:
            raise UserError(f"cutout is {self.cutout}; give the side of a square in pixels, 0 for none")
        if isinstance(self.policy, str):
            require_policy_name(self.policy)
        elif isinstance(self.policy, type):
            raise UserError(f"policy is the class {self.policy.__name__}; call it: {self.policy.__name__}(...)")
        elif not isinstance(self.policy, nn.Module | None):
            raise UserError(
                f"policy is a {type(self.policy).__name__}; give a transform of torchvision.transforms.v2, whose "
                "Lambda makes one of any function"
            )
        if self.crop_scale is not None and not 0 < self.crop_scale <= 1:
            raise UserError(f"crop_scale is {self.crop_scale}; give a share of the image above 0 and up to 1")
        if not 0 <= self.erasing <= 1:
            raise UserError(f"erasing is {self.erasing}; give a probability from 0 (none) to 1")
        for name, alpha in {"mixup": self.mixup, "cutmix": self.cutmix}.items():
            if not 0 <= alpha < math.inf:
                raise UserError(f"{name} is {alpha}; give 0 (none) or an α above it, such as 0.2 or 1")

    @property
    def least_crop(self) -> float:
        """The least share of a larger image's area that a random crop keeps."""
        return 0.08 if self.crop_scale is None else self.crop_scale

    @property
    def mixing(self) -> dict[str, float]:
        """The options that mix images of a batch, by name: the α of each."""
        return {name: alpha for name, alpha in {"mixup": self.mixup, "cutmix": self.cutmix}.items() if alpha}

    def padding(self, image_size: tuple[int, int]) -> int:
        """Return the pixels on each side for images of a size (height, width).

        Raises:
            UserError: a crop could miss the image altogether.
        """
        if self.crop_padding is None:
            return 4 if min(image_size) >= 24 else min(1, min(image_size) - 1)
        if self.crop_padding >= min(image_size):
            raise UserError(
                f"crop_padding is {self.crop_padding}, but the images are {image_size[0]}x{image_size[1]} pixels: "
                f"give less than {min(image_size)}"
            )
        return self.crop_padding

    def require_room_for_cutout(self, image_size: tuple[int, int]) -> None:
        """Raise UserError if the blank square could cover a whole image of a size (height, width)."""
        if self.cutout >= min(image_size):
            raise UserError(
                f"cutout is {self.cutout}, but the images are {image_size[0]}x{image_size[1]} pixels: "
                f"give less than {min(image_size)}, a quarter to half of it is usual"
            )

    @property
    def has_own_policy(self) -> bool:
        """Whether the policy is a transform of the user's own."""
        return self.policy is not None and self.policy not in POLICIES

    def make_policy(self, *, small: bool) -> nn.Module | None:
        """Make the policy for images that are kept in memory (small) or not; None without one.

        Raises:
            UserError: a transform of one's own cannot be made.
        """
        if self.policy is None:
            return None
        if not isinstance(self.policy, str):
            called = f"policy {type(self.policy).__name__}"
            return OwnPolicy(copied(self.policy, called), called)
        if self.has_own_policy:
            return FromFile(self.policy)
        return of_torchvision(self.policy, self.fill, small=small)


def require_policy_name(name: str) -> None:
    """Raise UserError for a text that names no policy."""
    if name in POLICIES or is_file_name(name):
        return
    if name.startswith("<"):
        raise UserError(
            f"policy '{name}' was an object of Python, which no file keeps: write a function that makes it, and give "
            "its name, FILE.py:NAME"
        )
    raise unknown("policy", name, (*POLICIES, "FILE.py:NAME for one of your own"))


class Draws(NamedTuple):
    """The random choices for n images, [n] each: the crop's top and left, from 0; whether it is mirrored."""

    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(count: int, padding: int, flip: bool, generator: torch.Generator) -> Draws:
    """Draw the crops and flips of ``count`` images."""
    top = torch.randint(2 * padding + 1, (count,), generator=generator)
    left = torch.randint(2 * padding + 1, (count,), generator=generator)
    mirrored = torch.randint(2 if flip else 1, (count,), generator=generator)
    return Draws(top, left, mirrored.bool())


def pad(images: Tensor, padding: int, mode: Literal["constant", "reflect"], fill: int) -> Tensor:
    """Return images [N, H, W, C] in uint8 with ``padding`` more pixels on each side: [N, H+2p, W+2p, C]."""
    if padding == 0:
        return images.contiguous()
    if mode == "constant":
        return F.pad(images, (0, 0, *(padding,) * 4), value=fill)
    for dimension in (1, 2):
        size = images.shape[dimension]
        at = torch.arange(-padding, size + padding, device=images.device)
        images = images.index_select(dimension, size - 1 - (size - 1 - at.abs()).abs())
    return images


def crop_and_flip(padded: Tensor, size: tuple[int, int], indices: Tensor, draws: Draws) -> Tensor:
    """Return the images of these indices, cropped to a size (height, width) and mirrored as drawn, pixel by pixel.

    padded: [N, H+2p, W+2p, C], uint8. indices and draws: [B], on the same device. Returns [B, H, W, C].
    """
    height, width = size
    _, rows, columns, channels = padded.shape
    # One gather does it all: an image begins at its first pixel and goes on to the right, or to the left if mirrored.
    first = (indices * rows + draws.top) * columns + draws.left + draws.mirrored * (width - 1)
    step = 1 - 2 * draws.mirrored.long()
    down = torch.arange(height, device=padded.device) * columns
    across = torch.arange(width, device=padded.device)
    pixels = (first[:, None] + down)[:, :, None] + (step[:, None] * across)[:, None, :]
    return padded.view(-1, channels).index_select(0, pixels.flatten()).view(-1, height, width, channels)


def normalise(images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return (images/255 − mean)/std as float32: [B, C, H, W] in a memory format, of [B, H, W, C] in uint8.

    mean and std: [C], float32.
    """
    scale, shift = 1 / (255 * std), mean / std
    if memory_format == torch.channels_last:
        # Whole rows at once: along the three channels alone, the arithmetic would be four times slower.
        width = images.shape[2]
        rows = images.flatten(2).float().mul_(scale.repeat(width)).sub_(shift.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    return planes.mul_(scale.view(-1, 1, 1)).sub_(shift.view(-1, 1, 1))


def cut_out(images: Tensor, side: int, middle: Tensor) -> Tensor:
    """Set a square of each normalised image to 0, the mean colour, in place; the part inside the image where it
    reaches over the edge.

    images: [B, C, H, W]. middle: [B, 2], in 0..1 of the height and of the width.
    """
    inside = []
    for dimension, share in zip((2, 3), middle.unbind(1), strict=True):
        size = images.shape[dimension]
        begin = (share * size).long()[:, None] - side // 2
        at = torch.arange(size, device=images.device)
        inside.append((at >= begin) & (at < begin + side))
    rows, columns = inside
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def erase(images: Tensor, chosen: Tensor, positions: Tensor, seed: int, epoch: int, view: int = 0) -> None:
    """Set a rectangle of each chosen one of the normalised images to 0, the mean colour, in place.

    What is drawn depends on the seed, the epoch, the position and the view alone. images: [B, C, H, W]. chosen: [B],
    booleans, and positions: [B], both on the CPU.
    """
    with torch.random.fork_rng(devices=[]):  # torchvision's transforms know only the global generator
        for place in chosen.nonzero()[:, 0].tolist():
            place_seed = stream_seed(of_view("erasing", view), seed, epoch, int(positions[place]))
            torch.default_generator.manual_seed(place_seed)
            ERASER(images[place])
