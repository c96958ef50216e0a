"""The batches of each epoch and process as sample indices: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from classmates.data.batches.randomness import generator
from classmates.data.batches.sampling import Sampling
from classmates.errors import UserError


class EpochSampler(torch.utils.data.Sampler[list[int]]):
    """Batches of sample indices, for any loader of a map-style data set (``DataLoader(batch_sampler=...)``).

    An epoch is one order of the samples, cut into batches. Nothing is remembered from epoch to epoch, so a run that
    resumes at epoch e sees what an uninterrupted one would. Several processes share each batch: process r takes every
    world_size-th group of it, all have the same number of batches, and the few groups at an epoch's end that would
    not go round are left out. A last batch too small for BatchNorm joins the batch before it.

    Args:
        sampling: which images belong together, and in what order they come.
        labels: [N], the class of every training sample.
        batch_size: images a batch, over all processes together.
        seed: 0 or more.
        rank: which process this is.
        world_size: how many processes there are.

    Raises:
        UserError: the batch size cannot be shared in whole groups, or the samples are too few.
    """

    def __init__(
        self,
        sampling: Sampling,
        labels: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        sampling.check_batch_size(batch_size, world_size)
        self.sampling = sampling
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start_batch = 0
        """The batch that passes begin with; not the first where a run goes on in the middle of an epoch."""
        self.positions = len(self.order(0))
        """The number of images in an epoch's order."""
        groups = self.positions // sampling.group // world_size
        if groups < sampling.smallest:
            raise UserError(
                f"{len(labels)} training images are too few: {world_size} process(es) need "
                f"{world_size * sampling.smallest * sampling.group} or more"
            )
        whole, rest = divmod(groups, batch_size // sampling.group // world_size)
        batches = whole + (rest >= sampling.smallest)
        sizes = [batch_size // world_size] * batches
        sizes[-1] += groups * sampling.group - sum(sizes)
        self.batch_sizes: list[int] = sizes
        """The number of images in each of this process's batches of an epoch."""

    def order(self, epoch: int) -> Tensor:
        """Return the epoch's sample indices, [positions], groups side by side; as many in every epoch."""
        return self.sampling.order(self.labels, self.batch_size, generator("order", self.seed, epoch))

    def shard(self) -> Tensor:
        """Return this process's positions in the epoch's order, from batch ``start_batch`` on, batch after batch."""
        group = self.sampling.group
        groups = sum(self.batch_sizes) // group * self.world_size
        positions = torch.arange(groups * group).view(groups, group)[self.rank :: self.world_size].flatten()
        return positions[sum(self.batch_sizes[: self.start_batch]) :]

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Cut one value for each position of ``shard()`` into batches."""
        return values.split(self.batch_sizes[self.start_batch :])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through; Lightning calls this."""
        self.epoch = epoch

    @property
    def sampler(self) -> EpochSampler:
        """The sampler itself: Lightning looks for ``set_epoch`` at ``DataLoader.batch_sampler.sampler``."""
        return self

    def __len__(self) -> int:
        return len(self.batch_sizes)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.split(self.order(self.epoch)[self.shard()]):
            yield batch.tolist()
