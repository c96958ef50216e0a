"""Which images make up each batch of an epoch: a pure function of the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from classmates.data.batches.randomness import generator, shuffled_by_class
from classmates.data.batches.triplets import disjoint_triplets, triplets_with_replacement
from classmates.errors import UserError


class EpochSampler(torch.utils.data.Sampler[list[int]]):
    """Batches of sample indices, for any loader of a map-style data set (``DataLoader(batch_sampler=...)``).

    An epoch is one order of the samples, cut into batches. Nothing is remembered from epoch to epoch, so a run that
    resumes at epoch e sees what an uninterrupted one would. Several processes share each batch: process r takes every
    world_size-th group of it, all have the same number of batches, and the few groups at an epoch's end that would
    not go round are left out. A last batch too small for BatchNorm joins the batch before it.

    Args:
        labels: [N], the class of every training sample.
        batch_size: images a batch, over all processes together.
        seed: 0 or more.
        rank: which process this is.
        world_size: how many processes there are.

    Raises:
        UserError: the batch size cannot be shared in whole groups, or the samples are too few.
    """

    group: ClassVar[int] = 1
    """How many consecutive images belong together."""
    smallest: ClassVar[int] = 2
    """How many groups a batch has at least: BatchNorm cannot train on one."""

    def __init__(self, labels: Tensor, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.check_batch_size(batch_size, world_size)
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start_batch = 0
        """The batch that passes begin with; not the first where a run goes on in the middle of an epoch."""
        self.positions = len(self.order(0))
        """How many images an epoch's order has."""
        groups = self.positions // self.group // world_size
        if groups < self.smallest:
            raise UserError(
                f"{len(labels)} training images are too few: {world_size} process(es) need "
                f"{world_size * self.smallest * self.group} or more"
            )
        whole, rest = divmod(groups, batch_size // self.group // world_size)
        batches = whole + (rest >= self.smallest)
        sizes = torch.full((batches,), batch_size // world_size)
        sizes[-1] += groups * self.group - int(sizes.sum())
        self.batch_sizes: list[int] = sizes.tolist()
        """How many images each of this process's batches of an epoch has."""

    def order(self, epoch: int) -> Tensor:
        """The epoch's sample indices, the images of a group side by side: [places], as many in every epoch."""
        raise NotImplementedError

    def shard(self) -> Tensor:
        """This process's positions in the epoch's order, from batch ``start_batch`` on, batch after batch."""
        groups = sum(self.batch_sizes) // self.group * self.world_size
        places = torch.arange(groups * self.group).view(groups, self.group)[self.rank :: self.world_size].flatten()
        return places[sum(self.batch_sizes[: self.start_batch]) :]

    def split(self, shares: Tensor) -> tuple[Tensor, ...]:
        """Cut what there is for each place of ``shard()`` into batches."""
        return shares.split(self.batch_sizes[self.start_batch :])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through; Lightning calls this."""
        self.epoch = epoch

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning looks for ``set_epoch`` at ``DataLoader.batch_sampler.sampler``."""
        return self

    def __len__(self) -> int:
        return len(self.batch_sizes)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.split(self.order(self.epoch)[self.shard()]):
            yield batch.tolist()

    @classmethod
    def check_batch_size(cls, batch_size: int, world_size: int = 1) -> None:
        """UserError where a batch of so many images cannot be shared by the processes in whole groups."""
        unit = cls.group * world_size
        least = cls.smallest * unit
        if batch_size >= least and batch_size % unit == 0:
            return
        below = batch_size // unit * unit
        nearest = sorted({max(below, least), max(below + unit, least)})
        between = f", shared by {world_size} processes" if world_size > 1 else ""
        raise UserError(
            f"batch_size is {batch_size}{between}; {cls.__name__} needs a multiple of {unit}, "
            f"{least} or more: use {' or '.join(map(str, nearest))}"
        )


class Shuffled(EpochSampler):
    """Every sample once, in random order."""

    def order(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.labels), generator=generator("order", self.seed, epoch))


class InOrder(EpochSampler):
    """Every sample once, as they lie: for evaluation."""

    smallest = 1

    def order(self, epoch: int) -> Tensor:
        return torch.arange(len(self.labels))


class Triplets(EpochSampler):
    """Anchor, positive, negative, anchor, ...: each image at most once an epoch, as CORSD's paper says."""

    group = 3

    def order(self, epoch: int) -> Tensor:
        return disjoint_triplets(self.labels, generator("order", self.seed, epoch)).flatten()


class TripletsWithReplacement(EpochSampler):
    """Anchor, positive, negative, anchor, ...: each image once as an anchor, as CORSD's released code does."""

    group = 3

    def order(self, epoch: int) -> Tensor:
        return triplets_with_replacement(self.labels, generator("order", self.seed, epoch)).flatten()


class ClassPairs(EpochSampler):
    """Anchor, partner, anchor, ...: each image once as an anchor, its partner drawn at random from its class.

    A partner may be the anchor itself, which is then seen in two augmentations, as in CS-KD's released code.
    """

    group = 2

    def order(self, epoch: int) -> Tensor:
        random = generator("order", self.seed, epoch)
        counts = self.labels.bincount()
        if counts.max() < 2:
            raise UserError(
                f"none of the {len(counts)} classes has two training images; pairs of a class need two images or more"
            )
        anchors = torch.randperm(len(self.labels), generator=random)
        classes = self.labels[anchors]
        rank = (torch.rand(len(anchors), generator=random, dtype=torch.float64) * counts[classes]).long()
        first = counts.cumsum(0) - counts
        return torch.column_stack([anchors, self.labels.argsort()[first[classes] + rank]]).flatten()


class ClassUniform(EpochSampler):
    """P classes x 8 images, as CC's paper trains: every image at least once an epoch, its group's first ones again
    where a class does not divide by 8.

    An epoch has as many rounds as the largest class has groups, R. A class comes at most once in a round: one of g
    groups every ⌊R / g⌋ or ⌈R / g⌉ rounds, the largest in all. With P groups a batch and C classes, the order of the
    classes is drawn anew every P / gcd(P, C) rounds. Where all classes have equally many groups, that is whenever a
    round begins with a batch, so a batch has each class ⌊P / C⌋ or ⌈P / C⌉ times: none twice where P ≤ C. Otherwise a
    class comes in a batch at most as often as there are rounds that the batch reaches into.
    """

    group = 8

    def order(self, epoch: int) -> Tensor:
        random = generator("order", self.seed, epoch)
        by_class, _ = shuffled_by_class(self.labels, random)
        counts = self.labels.bincount()
        first = counts.cumsum(0) - counts
        groups = -(-counts // self.group)  # of each class, rounded up
        owner = torch.arange(len(counts)).repeat_interleave(groups)  # [G], the class of each group
        number = torch.arange(len(owner)) - (groups.cumsum(0) - groups)[owner]  # [G], within its class
        place = number[:, None] * self.group + torch.arange(self.group)
        images = by_class[first[owner, None] + place % counts[owner, None]]
        most = int(groups.max())
        shift = torch.randint(most, (len(counts),), generator=random)
        rounds = (number * most + shift[owner]) // groups[owner]  # [G], that of each group
        batch = self.batch_size // self.group
        stay = batch // math.gcd(batch, int((counts > 0).sum()))  # the order stays for so many rounds
        _, draw = torch.unique_consecutive(owner * most + rounds // stay, return_inverse=True)
        rank = torch.randperm(len(owner), generator=random)[draw]
        return images[(rounds * len(owner) + rank).argsort()].flatten()
