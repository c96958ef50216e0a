"""The images that belong together in a batch, and their order in an epoch: frozen values, equal by their fields."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from classmates.data.batches.randomness import shuffled_by_class
from classmates.data.batches.triplets import disjoint_triplets, triplets_with_replacement
from classmates.errors import UserError


@dataclass(frozen=True)
class Sampling(ABC):
    """The kind of batches that a task or a method needs; its text (``str``) names the images in messages.

    Attributes:
        smallest: how many groups a batch has at least; two, for BatchNorm cannot train on a single image.
        level: whether an epoch goes through every class equally often whatever the data are.
        alike: whether the images of a group are of one class.
        looks_back: whether what a batch has depends on the one before.
    """

    smallest: ClassVar[int] = 2
    level: ClassVar[bool] = False
    alike: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    @abstractmethod
    def __str__(self) -> str:
        """Name the images of a batch, in the plural: "triplets of images"."""

    @property
    def group(self) -> int:
        """The number of consecutive images that belong together."""
        return 1

    @abstractmethod
    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        """Draw an epoch's sample indices, the images of a group side by side: as many in every epoch.

        labels: [N]. batch_size: images a batch, over all processes.
        """

    def holds(self, labels: Tensor, indices: Tensor, before: Tensor | None = None) -> bool:
        """Return whether a batch is of this kind, as far as that can be seen.

        labels, indices: [B], of its images. before: the indices of the batch before it, if that is known.
        """
        if len(labels) % self.group:
            return False
        groups = labels.view(-1, self.group)
        return not self.alike or bool((groups == groups[:, :1]).all())

    def check_batch_size(self, batch_size: int, world_size: int = 1) -> None:
        """Raise UserError where a batch of so many images cannot be shared by the processes in whole groups."""
        unit = self.group * world_size
        least = self.smallest * unit
        if batch_size >= least and batch_size % unit == 0:
            return
        below = batch_size // unit * unit
        nearest = sorted({max(below, least), max(below + unit, least)})
        between = f", shared by {world_size} processes" if world_size > 1 else ""
        multiple = f"a multiple of {unit}, " if unit > 1 else ""
        raise UserError(
            f"batch_size is {batch_size}{between}; {self} need {multiple}{least} or more: "
            f"use {' or '.join(map(str, nearest))}"
        )


def common_sampling(wanted: Mapping[str, Sampling]) -> Sampling:
    """Return the sampling that suits everyone; whoever takes shuffled images takes any others as well.

    wanted: by the name of who wants it.

    Raises:
        UserError: two want different batches.
    """
    particular = {name: sampling for name, sampling in wanted.items() if sampling != Shuffled()}
    if len(set(particular.values())) > 1:
        each = " and ".join(f"{name} ({sampling})" for name, sampling in particular.items())
        raise UserError(f"{each} need different batches: they cannot be trained together")
    return next(iter(particular.values()), Shuffled())


@dataclass(frozen=True)
class Shuffled(Sampling):
    """Every sample once, in random order."""

    def __str__(self) -> str:
        return "shuffled images"

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        return torch.randperm(len(labels), generator=random)


@dataclass(frozen=True)
class InOrder(Sampling):
    """Every sample once, as they lie: for evaluation."""

    smallest = 1

    def __str__(self) -> str:
        return "images in order"

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        return torch.arange(len(labels))


@dataclass(frozen=True)
class Triplets(Sampling):
    """Anchor, positive, negative, anchor, ...: y_anchor = y_positive ≠ y_negative.

    Args:
        disjoint: each image at most once an epoch, as CORSD's paper says; otherwise each image is an anchor once and
            its partners are drawn at random, as CORSD's released code does.
    """

    disjoint: bool = True

    def __str__(self) -> str:
        return "triplets of images" if self.disjoint else "triplets of images drawn with replacement"

    @property
    def group(self) -> int:
        return 3

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        draw = disjoint_triplets if self.disjoint else triplets_with_replacement
        return draw(labels, random).flatten()

    def holds(self, labels: Tensor, indices: Tensor, before: Tensor | None = None) -> bool:
        anchor, positive, negative = (labels[place::3] for place in range(3))
        return super().holds(labels, indices) and bool(((anchor == positive) & (anchor != negative)).all())


@dataclass(frozen=True)
class ClassPairs(Sampling):
    """Anchor, partner, anchor, ...: each image once as an anchor, its partner drawn at random from its class.

    A partner may be the anchor itself, which is then seen in two augmentations, as in CS-KD's released code.
    """

    alike = True

    def __str__(self) -> str:
        return "pairs of images of a class"

    @property
    def group(self) -> int:
        return 2

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        counts = labels.bincount()
        if counts.max() < 2:
            raise UserError(
                f"none of the {len(counts)} classes has two training images; pairs of a class need two images or more"
            )
        anchors = torch.randperm(len(labels), generator=random)
        classes = labels[anchors]
        rank = (torch.rand(len(anchors), generator=random, dtype=torch.float64) * counts[classes]).long()
        first = counts.cumsum(0) - counts
        return torch.column_stack([anchors, labels.argsort()[first[classes] + rank]]).flatten()


@dataclass(frozen=True)
class Overlapping(Sampling):
    """Repeated image, new image, repeated, ...: the new images of a batch are the repeated ones of the next.

    An epoch's random order is cut into pieces of half a batch, the last filled up with the first images. Every image
    is new once an epoch and repeated once; the first batch repeats the last piece.
    """

    looks_back = True

    def __str__(self) -> str:
        return "pairs of a repeated and a new image"

    @property
    def group(self) -> int:
        return 2

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        half = batch_size // 2
        pieces = -(-len(labels) // half)
        if pieces < 2:
            raise UserError(
                f"batch_size is {batch_size}, half of it repeated images of the batch before: {len(labels)} training "
                f"images need one of {2 * (len(labels) - 1)} or less"
            )
        order = torch.randperm(len(labels), generator=random)
        new = torch.cat([order, order[: pieces * half - len(order)]]).view(pieces, half)
        return torch.stack([new.roll(1, 0), new], dim=2).flatten()

    def holds(self, labels: Tensor, indices: Tensor, before: Tensor | None = None) -> bool:
        if before is None or torch.equal(before, indices):  # the same batch again and again is no epoch, but timing
            return super().holds(labels, indices)
        return torch.equal(indices[0::2], before[1::2])


@dataclass(frozen=True)
class ClassUniform(Sampling):
    """P classes x ``size`` images, as CC's paper trains with 8: every image at least once an epoch, its group's first
    ones again where a class does not divide by it.

    An epoch has as many rounds as the largest class has groups, R. A class comes at most once in a round: one of g
    groups every ⌊R / g⌋ or ⌈R / g⌉ rounds, the largest in all. With P groups a batch and C classes, the order of the
    classes is drawn anew every P / gcd(P, C) rounds. Where all classes have equally many groups, that is whenever a
    round begins with a batch, so a batch has each class ⌊P / C⌋ or ⌈P / C⌉ times: none twice where P ≤ C. Otherwise a
    class comes in a batch at most as often as there are rounds that the batch reaches into.
    """

    alike = True
    size: int = 8

    def __str__(self) -> str:
        return f"groups of {self.size} images of a class"

    @property
    def group(self) -> int:
        return self.size

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        by_class, _ = shuffled_by_class(labels, random)
        counts = labels.bincount()
        first = counts.cumsum(0) - counts
        groups = -(-counts // self.group)  # of each class, rounded up
        owner = torch.arange(len(counts)).repeat_interleave(groups)  # [G], the class of each group
        number = torch.arange(len(owner)) - (groups.cumsum(0) - groups)[owner]  # [G], within its class
        place = number[:, None] * self.group + torch.arange(self.group)
        images = by_class[first[owner, None] + place % counts[owner, None]]
        most = int(groups.max())
        shift = torch.randint(most, (len(counts),), generator=random)
        rounds = (number * most + shift[owner]) // groups[owner]  # [G], that of each group
        batch = batch_size // self.group
        stay = batch // math.gcd(batch, int((counts > 0).sum()))  # the order stays for so many rounds
        _, draw = torch.unique_consecutive(owner * most + rounds // stay, return_inverse=True)
        rank = torch.randperm(len(owner), generator=random)[draw]
        return images[(rounds * len(owner) + rank).argsort()].flatten()


@dataclass(frozen=True)
class Balanced(Sampling):
    """Another sampling's batches of an epoch that goes through every class equally often, with as many images in all.

    With N images of C classes, an epoch has ⌊N / C⌋ images of each class or one more, which ones it is is drawn anew.
    A class's own come in turn: none twice more often than another of its class, and of a class with more than its
    share, others every epoch. On these the inner sampling works as on any images; that of a class with few may put an
    image beside itself, in two augmentations.

    Args:
        inner: the batches to be made.

    Raises:
        UserError: those are balanced already.
    """

    inner: Sampling

    def __post_init__(self) -> None:
        if self.inner.level:
            raise UserError(f"balanced_sampling: {self.inner} show every class equally often already: leave it out")

    def __str__(self) -> str:
        return f"{self.inner}, balanced by class,"

    @property
    def group(self) -> int:
        return self.inner.group

    @property
    def smallest(self) -> int:  # type: ignore[override]
        return self.inner.smallest

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        chosen = level_classes(labels, random)
        return chosen[self.inner.order(labels[chosen], batch_size, random)]


def level_classes(labels: Tensor, random: torch.Generator) -> Tensor:
    """Draw as many sample indices as there are labels, [N], equally many of each class, or one more of some.

    A class's images come in turn, in random order. labels: [N], class numbers from 0.
    """
    by_class, _ = shuffled_by_class(labels, random)
    counts = labels.bincount()
    present = counts.nonzero()[:, 0]
    first = (counts.cumsum(0) - counts)[present]
    whole, rest = divmod(len(labels), len(present))
    shares = torch.full_like(present, whole)
    shares[torch.randperm(len(present), generator=random)[:rest]] += 1
    owner = torch.arange(len(present)).repeat_interleave(shares)
    turn = torch.arange(len(labels)) - (shares.cumsum(0) - shares)[owner]
    return by_class[first[owner] + turn % counts[present][owner]]
