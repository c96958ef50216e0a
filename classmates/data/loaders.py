"""Batches for training and evaluation, from memory or from files, for any training loop.

Lightning finds ``set_epoch`` at ``loader.sampler`` and calls it before each epoch; these loaders are no
``DataLoader``, so it leaves them as they are (a sampler has its own share for each process already).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation, Draws, crop_and_flip, crop_windows, draw, normalise
from classmates.data.images import decode
from classmates.data.parts import ImageData, Split
from classmates.data.randomness import generator, stream_seed
from classmates.data.samplers import EpochSampler, InOrder
from classmates.errors import UserError


class Loader:
    """The batches of one split in the order of its sampler, images float32 and normalised.

    Every pass reads the sampler's epoch when its first batch is asked for, not before: Lightning makes the iterator
    of a resumed run first and says the epoch later.
    """

    def __init__(self, data: ImageData, split: Split, sampler: EpochSampler, device: torch.device | str) -> None:
        if len(sampler.labels) != len(split):
            raise ValueError(f"the sampler is for {len(sampler.labels)} images, the split has {len(split)}")
        self.sampler = self.batch_sampler = sampler
        self.device = torch.device(device)
        self.labels = split.labels.to(self.device)
        self.mean = torch.tensor(data.mean, device=self.device).view(-1, 1, 1)
        self.std = torch.tensor(data.std, device=self.device).view(-1, 1, 1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        raise NotImplementedError


class MemoryLoader(Loader):
    """Images kept on the device and augmented there, a batch at a time; no workers and no waiting for the device."""

    def __init__(
        self,
        data: ImageData,
        split: Split,
        sampler: EpochSampler,
        augmentation: Augmentation,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(data, split, sampler, device)
        assert split.images is not None
        self.seed = seed
        self.padding = augmentation.padding(data.image_size)
        self.flip = data.flip if augmentation.flip is None else augmentation.flip
        self.windows = crop_windows(split.images.to(self.device), self.padding, augmentation.fill)

    def __iter__(self) -> Iterator[Batch]:
        epoch, sizes = self.sampler.epoch, self.sampler.batch_sizes
        order, share = self.sampler.order(epoch), self.sampler.share()
        # Drawn for every place of the epoch's order: the same picture in any batch and on any number of devices.
        draws = draw(len(order), self.padding, self.flip, generator("augmentation", self.seed, epoch))
        indices = order[share].to(self.device)
        columns = [self.labels[indices], indices, *(drawn[share].to(self.device) for drawn in draws)]
        for labels, chosen, *drawn in zip(*(column.split(sizes) for column in columns), strict=True):
            images = crop_and_flip(self.windows, chosen, Draws(*drawn))
            yield Batch(normalise(images, self.mean, self.std), labels, chosen)


class StreamingLoader(Loader):
    """Images read, cropped and resized in worker processes while the network trains."""

    def __init__(
        self,
        data: ImageData,
        split: Split,
        sampler: EpochSampler,
        transform: v2.Transform,
        *,
        seed: int,
        num_workers: int,
        device: torch.device | str,
    ) -> None:
        super().__init__(data, split, sampler, device)
        if num_workers < 0:
            raise UserError(f"num_workers is {num_workers}; give 0 (none) or more")
        assert split.paths is not None
        self.loader = DataLoader(
            _Files(split.paths, data.channels, transform, seed),
            batch_sampler=_Places(sampler),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the program's own, once a pass
        )

    def __iter__(self) -> Iterator[Batch]:
        for images, indices in self.loader:
            images = images.to(self.device, non_blocking=True)
            indices = indices.to(self.device, non_blocking=True)
            yield Batch(normalise(images, self.mean, self.std), self.labels[indices], indices)

    @property
    def _iterator(self) -> Any:
        """Lightning ends a loader's workers through this name when its loop is over. Left to the garbage collector,
        they are told too late, and the program waits five seconds for each."""
        return self.loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self.loader._iterator = iterator


Place = tuple[int, int, int]
"""(epoch, place in the epoch's order, sample index): what a worker must know to make one image."""


class _Places(torch.utils.data.Sampler[list[Place]]):
    """A sampler's batches with the epoch beside each index: workers live on from epoch to epoch and know of none."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Place]]:
        epoch = self.sampler.epoch
        places = self.sampler.share().split(self.sampler.batch_sizes)
        for batch, indices in zip(places, self.sampler, strict=True):
            yield [(epoch, place, index) for place, index in zip(batch.tolist(), indices, strict=True)]


class _Files(Dataset[tuple[Tensor, int]]):
    """Image files as uint8 tensors [C, H, W], each with its own random numbers, whichever worker reads it."""

    def __init__(self, paths: tuple[Path, ...], channels: int, transform: v2.Transform, seed: int) -> None:
        self.paths = paths
        self.channels = channels
        self.transform = transform
        self.seed = seed

    def __getitem__(self, at: Any) -> tuple[Tensor, int]:
        epoch, place, index = at
        image = decode(self.paths[index], self.channels)
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms know only the global generator
            torch.default_generator.manual_seed(stream_seed("augmentation", self.seed, epoch, place))
            return self.transform(image), index


def train_loader(
    data: ImageData,
    sampler: EpochSampler,
    augmentation: Augmentation,
    *,
    seed: int,
    num_workers: int = 2,
    device: torch.device | str = "cpu",
) -> Loader:
    """The training batches: in memory, random crops and flips; from files, RandomResizedCrop and flips.

    What is done to an image depends on the seed, the epoch and its place in the epoch alone: not on workers,
    processes or the batch size, and the program's own random numbers are left alone.

    Args:
        data: its training split is used.
        sampler: over the labels of that split.
        augmentation: how images are varied.
        seed: of the augmentation.
        num_workers: processes that read files; images in memory need none.
        device: where the batches are made.

    Raises:
        UserError: an augmentation that these images cannot have.
    """
    if data.train.images is not None:
        return MemoryLoader(data, data.train, sampler, augmentation, seed=seed, device=device)
    if augmentation.crop_padding is not None or augmentation.fill != 0:
        raise UserError(
            "crop_padding and fill are for images kept in memory (up to 64 pixels); larger ones are cropped at "
            "random sizes: leave these two out, or give an image_size of 64 or less"
        )
    flip = data.flip if augmentation.flip is None else augmentation.flip
    crop = v2.RandomResizedCrop(data.image_size, antialias=True)
    transform = v2.Compose([crop, v2.RandomHorizontalFlip(0.5 if flip else 0.0), v2.PILToTensor()])
    return StreamingLoader(data, data.train, sampler, transform, seed=seed, num_workers=num_workers, device=device)


def eval_loader(
    data: ImageData, split: Split, batch_size: int, *, num_workers: int = 2, device: torch.device | str = "cpu"
) -> Loader:
    """Every image of a split once, in order, not augmented; indices 0..N−1.

    Images from files: the shorter side resized to 256/224 of the image size, then the middle.
    """
    sampler = InOrder(split.labels, batch_size)
    if split.images is not None:
        unchanged = Augmentation(crop_padding=0, flip=False)
        return MemoryLoader(data, split, sampler, unchanged, seed=0, device=device)
    transform = v2.Compose([v2.Resize(data.resize, antialias=True), v2.CenterCrop(data.image_size), v2.PILToTensor()])
    return StreamingLoader(data, split, sampler, transform, seed=0, num_workers=num_workers, device=device)
