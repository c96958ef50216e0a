"""The base class of the loaders, and the loader of images that are kept in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from classmates.contracts import Batch
from classmates.data.augmentation import (
    Augmentation,
    Draws,
    crop_and_flip,
    cut_out,
    draw,
    erase,
    normalise,
    pad,
)
from classmates.data.batches.randomness import generator, of_view
from classmates.data.batches.samplers import EpochSampler
from classmates.data.parts import ImageData, Split
from classmates.data.policies import apply_policy


class Loader:
    """The batches of one split in the order of its sampler: images float32, normalised, cut out and erased if asked.

    Every pass reads the sampler's epoch when its first batch is asked for, not before: Lightning makes the iterator
    of a resumed run first and says the epoch later. Lightning keeps ``state_dict`` in checkpoints, so that a run that
    goes on in the middle of an epoch makes only the batches that are left.

    Of ``views`` augmentations of each image, each with draws of its own, the one whose draws are those of a loader
    without views comes last in ``Batch.views`` and is ``Batch.images``.
    """

    def __init__(
        self,
        data: ImageData,
        split: Split,
        sampler: EpochSampler,
        augmentation: Augmentation,
        *,
        seed: int,
        views: int,
        device: torch.device | str,
        memory_format: torch.memory_format,
    ) -> None:
        if len(sampler.labels) != len(split):
            raise ValueError(f"the sampler is for {len(sampler.labels)} images, the split has {len(split)}")
        self.sampler = self.batch_sampler = sampler
        self.cutout = augmentation.cutout
        self.erasing = augmentation.erasing
        self.seed = seed
        self.views = views
        self.device = torch.device(device)
        self.memory_format = memory_format
        self.labels = split.labels.to(self.device)
        self.mean = torch.tensor(data.mean, device=self.device)
        self.std = torch.tensor(data.std, device=self.device)
        self.given = self.skipped = 0  # batches of the current pass; batches that the next one leaves out
        self.waited = 0.0
        """Seconds that whoever uses this loader has waited for its batches, over all passes."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the current pass were given."""
        return {"given": self.given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass, and only that one, begin after the batches that were given; anew where all were."""
        self.skipped = state["given"] % len(self)

    @property
    def advice(self) -> str:
        """Advice for a training that waits for these batches."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        self.given, self.skipped = self.skipped, 0
        self.sampler.start_batch = self.given
        batches = self._batches()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            self.given += 1
            yield batch

    def pixels(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        """Yield the views of each batch's images, [B, H, W, C] in uint8, and their indices, [B], on the device."""
        raise NotImplementedError

    def _batches(self) -> Iterator[Batch]:
        middles = [self._middles(view) for view in range(self.views)]
        erased = [self._erased(view) for view in range(self.views)]
        for pixels, indices in self.pixels():
            views = []
            for view, images in enumerate(pixels):
                images = normalise(images, self.mean, self.std, self.memory_format)
                if self.cutout:
                    cut_out(images, self.cutout, next(middles[view]))
                if self.erasing:
                    erase(images, *next(erased[view]), self.seed, self.sampler.epoch, view)
                views.append(images)
            several = tuple(reversed(views)) if self.views > 1 else ()
            yield Batch(views[0], self.labels[indices], indices, views=several)

    def _middles(self, view: int) -> Iterator[Tensor]:
        """Yield where each batch's images are cut out, [B, 2], as shares of height and width."""
        if self.cutout:
            drawn = torch.rand(self.sampler.positions, 2, generator=self._generator("cutout", view))
            yield from self.sampler.split(drawn[self.sampler.shard()].to(self.device))

    def _erased(self, view: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield which of each batch's images are erased, [B] booleans, and the positions of all, [B]."""
        if self.erasing:
            shard = self.sampler.shard()
            drawn = torch.rand(self.sampler.positions, generator=self._generator("erased", view))
            chosen = drawn[shard] < self.erasing
            yield from zip(self.sampler.split(chosen), self.sampler.split(shard), strict=True)

    def _generator(self, purpose: str, view: int) -> torch.Generator:
        """Return the generator of this epoch's draws for a view."""
        return generator(of_view(purpose, view), self.seed, self.sampler.epoch)


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
        views: int,
        device: torch.device | str,
        memory_format: torch.memory_format,
    ) -> None:
        super().__init__(
            data, split, sampler, augmentation, seed=seed, views=views, device=device, memory_format=memory_format
        )
        assert split.images is not None
        self.image_size = data.image_size
        self.padding = augmentation.padding(data.image_size)
        self.flip = data.flip if augmentation.flip is None else augmentation.flip
        policy = augmentation.make_policy(small=True)
        self.policy = None if policy is None else policy.to(self.device)
        images = split.images.to(self.device)
        self.padded = pad(images, self.padding, augmentation.padding_mode, augmentation.fill)

    @property
    def advice(self) -> str:
        if self.policy is not None:
            return "training without --augmentation.policy, which takes most of that time"
        return "a larger --batch_size; the network is so small that making its batches shows"

    def pixels(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        order = self.sampler.order(self.sampler.epoch)[self.sampler.shard()].to(self.device)
        for indices, *views in zip(
            self.sampler.split(order), *(self._view(order, view) for view in range(self.views)), strict=True
        ):
            yield views, indices

    def _view(self, order: Tensor, view: int) -> Iterator[Tensor]:
        """Yield one augmentation of each batch's images. order: [n], the sample indices of all of them."""
        epoch, shard = self.sampler.epoch, self.sampler.shard()
        # Drawn for every position of the epoch's order: the same picture in any batch and on any number of devices.
        drawn = draw(self.sampler.positions, self.padding, self.flip, self._generator("augmentation", view))
        columns = [order, *(column[shard].to(self.device) for column in drawn)]
        for positions, indices, *draws in zip(*map(self.sampler.split, [shard, *columns]), strict=True):
            images = crop_and_flip(self.padded, self.image_size, indices, Draws(*draws))
            if self.policy is not None:
                images = apply_policy(self.policy, images, positions, self.seed, epoch, view)
            yield images
