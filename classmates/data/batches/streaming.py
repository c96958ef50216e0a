"""Large images, read and varied in worker processes while the network trains."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classmates._machine import usable_cores
from classmates.data.augmentation import Augmentation
from classmates.data.batches.copying import on_device
from classmates.data.batches.in_memory import Loader
from classmates.data.batches.randomness import of_view, stream_seed
from classmates.data.batches.samplers import EpochSampler
from classmates.data.parts import Files, ImageData, Split
from classmates.data.policies import PolicyFails
from classmates.data.readers.jpeg import decode_fast
from classmates.data.readers.opening import UnreadableImage
from classmates.errors import UserError, first_line

LOST = ("DataLoader worker (", "shared memory")
"""What PyTorch says where a process that reads images has ended, or cannot hand over what it has read."""
FORKS = sys.platform == "linux"
"""Whether processes that read images begin as copies of this one; elsewhere they begin anew, and are sent things."""
BATCHES_AHEAD = 2
"""The number of batches each worker makes ahead; more would only take memory where workers keep up on average."""


class StreamingLoader(Loader):
    """Images read, cropped and resized in worker processes; how, depends on an image's position in the epoch."""

    def __init__(
        self,
        data: ImageData,
        split: Split,
        sampler: EpochSampler,
        augmentation: Augmentation,
        transform: Callable[[Tensor], Tensor],
        *,
        seed: int,
        views: int,
        num_workers: int,
        device: torch.device | str,
        memory_format: torch.memory_format,
    ) -> None:
        super().__init__(
            data, split, sampler, augmentation, seed=seed, views=views, device=device, memory_format=memory_format
        )
        assert split.paths is not None
        self.shorter_side = data.resize
        self.loader = _Workers(
            _Images(split.paths, data.channels, transform, seed, views),
            batch_sampler=_Positions(sampler),
            num_workers=num_workers,
            # Python's own choice from 3.14 on would run a script without a main guard in each of them.
            multiprocessing_context="fork" if num_workers and FORKS else None,
            persistent_workers=num_workers > 0,
            prefetch_factor=BATCHES_AHEAD if num_workers > 0 else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=use_any_core,
            generator=torch.Generator(),  # else it would draw from the program's own, once a pass
        )

    @property
    def advice(self) -> str:
        cores = usable_cores()
        more = f"more --num_workers (there are {self.loader.num_workers}, and {cores} cores), or "
        smaller = f"images stored smaller, with a shorter side of {self.shorter_side} pixels"
        return (more if self.loader.num_workers < cores else "") + smaller

    def pixels(self) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
        try:
            for *views, indices in on_device(([*views, indices] for views, indices in self.loader), self.device):
                yield views, indices
        except (UnreadableImage, PolicyFails) as error:  # before which DataLoader puts the traceback of its worker
            raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None
        except RuntimeError as error:
            if any(words in str(error) for words in LOST):
                raise UserError(
                    f"a process that reads images was lost ({first_line(error)}): the memory is not enough, or that "
                    "which processes share (/dev/shm; in Docker --shm-size 1g gives more). Say --num_workers 0, or a "
                    "smaller --batch_size"
                ) from error
            raise

    @property
    def _iterator(self) -> Any:
        """Lightning ends a loader's workers through this name when its loop is over. Left to the garbage collector,
        they are told too late, and the program waits five seconds for each."""
        return self.loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self.loader._iterator = iterator


class _Workers(DataLoader[tuple[list[Tensor], int]]):
    """A DataLoader that does not warn of more workers than cores, which it miscounts where OpenMP has bound the main
    thread to one: they cost little, and what helps where images are late is said by ``StreamingLoader.advice``."""

    def check_worker_number_rationality(self) -> None:
        pass


Position = tuple[int, int, int]
"""(epoch, position in the epoch's order, sample index): what a worker must know to make one image."""


class _Positions(torch.utils.data.Sampler[list[Position]]):
    """A sampler's batches with the epoch beside each index: workers live on from epoch to epoch and know of none."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Position]]:
        epoch = self.sampler.epoch
        positions = self.sampler.split(self.sampler.shard())
        for batch, indices in zip(positions, self.sampler, strict=True):
            yield [(epoch, position, index) for position, index in zip(batch.tolist(), indices, strict=True)]


class _Images(Dataset[tuple[list[Tensor], int]]):
    """The views of images as uint8 tensors [H, W, C], each with its own random numbers, whichever worker reads it."""

    def __init__(
        self, files: Files, channels: int, transform: Callable[[Tensor], Tensor], seed: int, views: int
    ) -> None:
        self.files = files
        self.channels = channels
        self.transform = transform
        self.seed = seed
        self.purposes = [of_view("augmentation", view) for view in range(views)]

    def __getitem__(self, at: Any) -> tuple[list[Tensor], int]:
        epoch, position, index = at
        image = decode_fast(self.files[index], self.channels)
        views = []
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms know only the global generator
            for purpose in self.purposes:
                torch.default_generator.manual_seed(stream_seed(purpose, self.seed, epoch, position))
                views.append(self.transform(image).permute(1, 2, 0))
        return views, index


def use_any_core(worker: int) -> None:
    """With OMP_PROC_BIND, OpenMP ties the program's main thread to one core, and workers inherit that: free them."""
    if "OMP_PROC_BIND" in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
