"""Batches for training and evaluation, from memory or from files, for any training loop.

Lightning finds ``set_epoch`` at ``loader.sampler`` and calls it before each epoch; these loaders are no
``DataLoader``, so it leaves them as they are (a sampler has its own share for each process already).
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.transforms import InterpolationMode, v2

from classmates._memory import PROCESS, require_memory
from classmates.data.augmentation import Augmentation
from classmates.data.batches.in_memory import Loader, MemoryLoader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import InOrder
from classmates.data.batches.streaming import FORKS, StreamingLoader
from classmates.data.parts import ImageData, Split
from classmates.data.policies import CPU, IMAGES_A_DRAW, POLICIES, check_own
from classmates.data.resizing import PackedRandomResizedCrop, crop_middle
from classmates.errors import UserError, first_line

NOT_VARIED = Augmentation(crop_padding=0, flip=False)


def train_loader(
    data: ImageData,
    sampler: EpochSampler,
    augmentation: Augmentation,
    *,
    seed: int,
    views: int = 1,
    num_workers: int = 2,
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Loader:
    """Make the training batches: in memory, random crops and flips; from files, RandomResizedCrop and flips.

    What is done to an image depends on the seed, the epoch, its position in the epoch and the view alone: not on
    workers, processes or the batch size, and the program's own random numbers are left alone.

    Args:
        data: its training split is used.
        sampler: over the labels of that split.
        augmentation: how images are varied.
        seed: of the augmentation.
        views: how many independent augmentations of each image a batch has (``Method.views``).
        num_workers: processes that read files; images in memory need none.
        device: where the batches are made.
        memory_format: of the images; torch.channels_last for a network that has it.

    Raises:
        UserError: as ``check_loading``.
    """
    check_loading(data, augmentation, num_workers, torch.device(device))
    how: Any = {"seed": seed, "views": views, "device": device, "memory_format": memory_format}
    if data.train.images is not None:
        return MemoryLoader(data, data.train, sampler, augmentation, **how)
    flip = data.flip if augmentation.flip is None else augmentation.flip
    crop = PackedRandomResizedCrop(
        data.image_size, scale=(augmentation.least_crop, 1.0), interpolation=InterpolationMode(data.interpolation)
    )
    steps = [crop, v2.RandomHorizontalFlip(0.5 if flip else 0.0)]
    if policy := augmentation.make_policy(small=False):
        steps.append(policy)
    transform = v2.Compose(steps)
    return StreamingLoader(data, data.train, sampler, augmentation, transform, num_workers=num_workers, **how)


def check_loading(
    data: ImageData, augmentation: Augmentation, num_workers: int, device: torch.device = CPU
) -> list[str]:
    """Check the settings of ``train_loader`` before there is a sampler; return notes on those without effect.

    ``fill`` has none on images from files, which are cropped without padding, without a policy of torchvision's. It
    is no error there, so that one recipe is for images of any size. device: where the batches will be made.

    Raises:
        UserError: an augmentation that these images cannot have, a policy of one's own that cannot be made or does
            not return images as it got them, or a number of workers below 0.
    """
    require_workers(num_workers)
    augmentation.require_room_for_cutout(data.image_size)
    small = data.train.images is not None
    if augmentation.has_own_policy and (policy := augmentation.make_policy(small=small)) is not None:
        check_own(
            policy,
            (*((IMAGES_A_DRAW,) if small else ()), data.channels, *data.image_size),
            device if small else CPU,
        )
        if not small and num_workers > 0:
            require_for_readers(policy)
    if small:
        augmentation.padding(data.image_size)
        if augmentation.crop_scale is not None:
            raise UserError(
                f"crop_scale is {augmentation.crop_scale:g}, but it is for images read from files (above 64 pixels); "
                "those kept in memory are shifted by up to crop_padding pixels: leave it out, or give an image_size "
                "above 64"
            )
        return []
    if augmentation.crop_padding is not None or augmentation.padding_mode != "constant":
        raise UserError(
            "crop_padding and padding_mode are for images kept in memory (up to 64 pixels); larger ones are cropped "
            "at random sizes: leave these two out, or give an image_size of 64 or less"
        )
    if augmentation.fill == 0 or augmentation.policy in POLICIES:
        return []
    return [f"fill {augmentation.fill} has no effect: images larger than 64 pixels are cropped without padding"]


def require_for_readers(policy: nn.Module) -> None:
    """Raise UserError where processes that read images begin anew, and a transform cannot be sent to them."""
    if FORKS:
        return
    try:
        pickle.dumps(policy)
    except Exception as error:
        raise UserError(
            f"the policy cannot be sent to the processes that read images ({first_line(error)}): write a function "
            "that makes it, and give its name, FILE.py:NAME, or say --num_workers 0"
        ) from error


def require_workers(num_workers: int) -> None:
    """Raise UserError for fewer than none or more than there is memory for, also where images need none."""
    if num_workers < 0:
        raise UserError(f"num_workers is {num_workers}; give 0 (none) or more")
    require_memory(f"num_workers={num_workers}", "processes", num_workers * PROCESS)


def varies(data: ImageData, augmentation: Augmentation) -> bool:
    """Return whether a training image looks different from epoch to epoch."""
    cropped = data.train.images is None or augmentation.padding(data.image_size) > 0
    mirrored = data.flip if augmentation.flip is None else augmentation.flip
    drawn = augmentation.cutout or augmentation.erasing or augmentation.mixup or augmentation.cutmix
    return cropped or mirrored or bool(drawn) or augmentation.policy is not None


def eval_loader(
    data: ImageData,
    split: Split,
    batch_size: int,
    *,
    num_workers: int = 2,
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Loader:
    """Make the batches of a split: every image once, in order, not augmented; indices 0..N−1.

    Images from files: the shorter side resized to 256/224 of the image size, then the middle.

    Raises:
        UserError: a number of workers below 0.
    """
    require_workers(num_workers)
    sampler = EpochSampler(InOrder(), split.labels, batch_size)
    how: Any = {"seed": 0, "views": 1, "device": device, "memory_format": memory_format}
    if split.images is not None:
        return MemoryLoader(data, split, sampler, NOT_VARIED, **how)
    shorter = data.resize
    assert isinstance(shorter, int)  # as the images are not in memory
    transform = partial(crop_middle, shorter=shorter, size=data.image_size, interpolation=data.interpolation)
    return StreamingLoader(data, split, sampler, NOT_VARIED, transform, num_workers=num_workers, **how)
