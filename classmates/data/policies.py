"""Policies: further changes of training images, by torchvision or by a transform of the user's own."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from classmates._own_code import WHATEVER, load_class
from classmates.data.batches.randomness import of_view, stream_seed
from classmates.errors import UserError, first_line

PolicyName = Literal["RandAugment", "TrivialAugmentWide", "AutoAugment"]
POLICIES: tuple[str, ...] = get_args(PolicyName)
IMAGES_A_DRAW = 8
"""The number of neighbours in the epoch's order that a policy treats alike, where images are kept in memory."""
TRIED = 8
"""How often a transform of the user's own is tried before training; what one draw does not show another may."""
Transform = Callable[[Tensor], Tensor]


def of_torchvision(name: str, fill: int, *, small: bool) -> v2.Transform:
    """Make a policy of POLICIES; AutoAugment's is the one found for CIFAR-10 if the images are small."""
    if name == "AutoAugment":
        found_for = v2.AutoAugmentPolicy.CIFAR10 if small else v2.AutoAugmentPolicy.IMAGENET
        return v2.AutoAugment(found_for, fill=fill)
    return getattr(v2, name)(fill=fill)


class PolicyFails(UserError):
    """A transform of the user's own fails, or does not return images as it got them."""


class OwnPolicy(nn.Module):
    """A transform of the user's own, which has to return images as it gets them.

    Args:
        transform: called with images in uint8, [n, C, H, W] or [C, H, W].
        called: how messages call it.

    Raises:
        PolicyFails: it fails, or what it returns is of another shape or type.
    """

    def __init__(self, transform: Transform, called: str):
        super().__init__()
        self.transform = transform
        self.called = called

    def forward(self, images: Tensor) -> Tensor:
        try:
            changed = self.transform(images)
        except WHATEVER as error:
            raise PolicyFails(f"{self.called} fails on {described(images)}: {where_it_failed(error)}") from error
        if isinstance(changed, Tensor) and (changed.shape, changed.dtype) == (images.shape, images.dtype):
            return changed
        made = described(changed) if isinstance(changed, Tensor) else type(changed).__name__
        raise PolicyFails(
            f"{self.called} makes {made} of {described(images)}; it is to return what it gets: images are cropped "
            "before and normalised after it"
        )


class FromFile(OwnPolicy):
    """The transform that ``FILE.py:NAME`` names or, being a class or function, makes when called without arguments.

    It is pickled by that name: processes that read images run the file themselves.

    Raises:
        UserError: there is no such thing, it cannot be called so, or what it returns is no transform.
    """

    def __init__(self, name: str):
        super().__init__(made_by_file(name), f"policy '{name}'")
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return FromFile, (self.name,)


def made_by_file(name: str) -> Transform:
    """Return the transform that ``FILE.py:NAME`` is or makes; UserError as ``FromFile``."""
    found = load_class("policy", name)
    if not (inspect.isclass(found) or inspect.isroutine(found) or isinstance(found, partial)):
        return copied(found, f"policy '{name}'")
    if inspect.isfunction(found) and (needed := required_arguments(found)):
        own = name.rpartition(":")[2]
        raise UserError(
            f"policy '{name}' takes {', '.join(needed)}, but is called without arguments, to make a transform: "
            f"if it is one itself, write a function that returns it ('def make(): return {own}') and name that"
        )
    try:
        made = found()
    except WHATEVER as error:
        raise UserError(
            f"policy '{name}' is called without arguments, which fails: {where_it_failed(error)}"
        ) from error
    if inspect.isclass(made) or not callable(made):
        kind = f"the class {made.__name__}" if inspect.isclass(made) else f"a {type(made).__name__}"
        raise UserError(
            f"policy '{name}' is called without arguments and returns {kind}, but it is to return a transform, "
            "such as one of torchvision.transforms.v2"
        )
    return made


def required_arguments(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments that a function cannot be called without."""
    of_many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in of_many]


def copied(transform: Any, called: str) -> Any:
    """Return a copy of a transform, which may be moved to another device while its owner keeps it as it is.

    Raises:
        UserError: it cannot be copied.
    """
    try:
        return copy.deepcopy(transform)
    except Exception as error:
        raise UserError(
            f"{called} cannot be copied ({first_line(error)}): write a function that makes it, and give its name, "
            "FILE.py:NAME"
        ) from error


def described(images: Tensor) -> str:
    """Return how messages describe a tensor of images."""
    return f"images of {list(images.shape)} in {str(images.dtype).removeprefix('torch.')}"


def where_it_failed(error: BaseException) -> str:
    """Return an error's kind and first line, and the file and line it comes from, if that is not here."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if frame.filename == __file__ else f" ({Path(frame.filename).name}, line {frame.lineno})"
    return f"{type(error).__name__}: {first_line(error)}{where}"


def check_own(policy: nn.Module, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
    """Try a transform of the user's own on random images, as many or fewer at a time as it will get.

    The same images and draws whatever the run's seed, so that no seed finds what another does not.

    Args:
        policy: the transform.
        shape: of the images, [n, C, H, W] or [C, H, W].
        device: where it gets them.

    Raises:
        PolicyFails: it fails, or does not return images as it got them.
    """
    *count, channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        for number in range(TRIED):
            torch.default_generator.manual_seed(number)
            batch = [max(1, count[0] - number)] if count else []
            # In memory as the batches are: the channels last.
            images = torch.randint(256, (*batch, height, width, channels), dtype=torch.uint8, device=device)
            policy(images.movedim(-1, -3))


def apply_policy(policy: nn.Module, images: Tensor, places: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
    """Change images [B, H, W, C] in uint8, those alike whose places in the epoch's order lie side by side.

    torchvision draws once for all images it is given, so a batch is given to it in pieces. What is drawn once for a
    piece depends on the seed, the epoch, the place and the view alone; what is drawn image by image, such as noise,
    also on which of the neighbours are in the batch. places: [B], ascending, on the CPU.
    """
    groups, counts = (places // IMAGES_A_DRAW).unique_consecutive(return_counts=True)
    pieces = images.permute(0, 3, 1, 2).split(counts.tolist())
    # Transforms know only the global generators: the CPU's, and noise as large as the images that of their device.
    generators = [torch.default_generator]
    on_gpu = images.device.type == "cuda"
    if on_gpu:
        generators.append(torch.cuda.default_generators[images.device.index])
    changed = []
    with torch.random.fork_rng(devices=[images.device] if on_gpu else []):
        for group, piece in zip(groups.tolist(), pieces, strict=True):
            for generator in generators:
                generator.manual_seed(stream_seed(of_view("policy", view), seed, epoch, group))
            changed.append(policy(piece))
    return torch.cat(changed).permute(0, 2, 3, 1).contiguous()
