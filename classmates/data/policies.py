"""Policies: further changes of training images, by torchvision or by a transform of the user's own."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
CPU = torch.device("cpu")


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
        if isinstance(changed, Tensor) and all(
            getattr(changed, kept) == getattr(images, kept) for kept in ("shape", "dtype", "device")
        ):
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
        with own_draws() as seed:  # the run's own stay as they are, whatever the file draws or seeds
            seed(0)
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
    place = "" if images.device.type == "cpu" else f" on {images.device}"
    return f"images of {list(images.shape)} in {str(images.dtype).removeprefix('torch.')}{place}"


def where_it_failed(error: BaseException) -> str:
    """Return an error's kind and first line, and the file and line of the user's own that it comes from, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "-packages" not in frame.filename]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


@contextmanager
def own_draws(device: torch.device = CPU) -> Iterator[Callable[[int], None]]:
    """Let what is drawn from the global generators within leave the program's own random numbers as they are.

    Transforms know no others: the CPU's and, for noise as large as the images, that of their device. Gives what seeds
    them.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        generators = [torch.default_generator]
        if on_gpu:
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])

        def seed(number: int) -> None:
            for generator in generators:
                generator.manual_seed(number)

        yield seed


def check_own(policy: nn.Module, shape: tuple[int, ...], device: torch.device = CPU) -> None:
    """Try a transform of the user's own on random images, as many or fewer at a time as it will get.

    The same images and draws whatever the run's seed, so that no seed finds what another does not.

    Args:
        policy: the transform, which is moved there.
        shape: of the images, [n, C, H, W] or [C, H, W].
        device: where the images will be.

    Raises:
        PolicyFails: it fails, or does not return images as it got them.
    """
    *count, channels, height, width = shape
    policy = policy.to(device)
    with own_draws(device) as seed:
        for number in range(TRIED):
            seed(number)
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
    changed = []
    with own_draws(images.device) as seed_draws:
        for group, piece in zip(groups.tolist(), pieces, strict=True):
            seed_draws(stream_seed(of_view("policy", view), seed, epoch, group))
            changed.append(policy(piece))
    return torch.cat(changed).permute(0, 2, 3, 1).contiguous()
