"""Policies: further changes of training images, by torchvision or by a transform of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from classmates._own_code import WHATEVER, load_class
from classmates.data.batches.randomness import of_view, stream_seed
from classmates.errors import UserError, first_line

POLICIES = ("RandAugment", "TrivialAugmentWide", "AutoAugment")
IMAGES_A_DRAW = 8
"""The number of neighbours in the epoch's order that a policy treats alike, where images are kept in memory."""


def of_torchvision(name: str, fill: int, *, small: bool) -> v2.Transform:
    """Make a policy of POLICIES; AutoAugment's is the one found for CIFAR-10 if the images are small."""
    if name == "AutoAugment":
        found_for = v2.AutoAugmentPolicy.CIFAR10 if small else v2.AutoAugmentPolicy.IMAGENET
        return v2.AutoAugment(found_for, fill=fill)
    return getattr(v2, name)(fill=fill)


class FromFile(nn.Module):
    """The transform that ``FILE.py:NAME`` makes, a class or function that is called without arguments.

    It is pickled by that name: processes that read images run the file themselves.

    Raises:
        UserError: there is no such thing, it cannot be called so, or what it returns is no transform.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        make = load_class("policy", name)
        try:
            self.transform: Callable[[Tensor], Tensor] = make()
        except WHATEVER as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"policy '{name}' is called without arguments, which fails: {why}") from error
        if not callable(self.transform):
            kind = type(self.transform).__name__
            raise UserError(
                f"policy '{name}' is called without arguments and returns a {kind}, but it is to return a transform, "
                "such as one of torchvision.transforms.v2"
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.transform(images)

    def __reduce__(self) -> tuple[Any, ...]:
        return FromFile, (self.name,)


def check_own(policy: nn.Module, shape: tuple[int, ...]) -> None:
    """Raise UserError where a transform of the user's own does not return images as it got them.

    shape: of the images that it will get, [n, C, H, W] or [C, H, W], in uint8.
    """
    images = torch.zeros(shape, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        try:
            changed = policy(images)
        except Exception as error:
            raise UserError(
                f"the policy fails on images of {list(shape)} in uint8: {type(error).__name__}: {first_line(error)}"
            ) from error
    if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (images.shape, images.dtype):
        kind = f"{list(changed.shape)} in {changed.dtype}" if isinstance(changed, Tensor) else type(changed).__name__
        raise UserError(
            f"the policy makes {kind} of images of {list(shape)} in torch.uint8; it is to return what it gets: "
            "images are cropped before and normalised after it"
        )


def apply_policy(policy: nn.Module, images: Tensor, places: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
    """Change images [B, H, W, C] in uint8, those alike whose places in the epoch's order lie side by side.

    torchvision draws once for all images it is given, so a batch is given to it in pieces. What is drawn depends on
    the seed, the epoch, the place and the view alone. places: [B], ascending, on the CPU.
    """
    groups, counts = (places // IMAGES_A_DRAW).unique_consecutive(return_counts=True)
    pieces = images.permute(0, 3, 1, 2).split(counts.tolist())
    changed = []
    with torch.random.fork_rng(devices=[]):  # torchvision's transforms know only the global generator
        for group, piece in zip(groups.tolist(), pieces, strict=True):
            torch.default_generator.manual_seed(stream_seed(of_view("policy", view), seed, epoch, group))
            changed.append(policy(piece))
    return torch.cat(changed).permute(0, 2, 3, 1).contiguous()
