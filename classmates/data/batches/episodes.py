"""Episodes of few-shot learning: a few classes, and of each a few images as support and others as queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from classmates.data.batches.sampling import Sampling
from classmates.data.readers.listing import listed
from classmates.errors import UserError


@dataclass(frozen=True)
class Episodes(Sampling):
    """Whole episodes, each the images of ``way`` classes: of every class its support first, then its queries.

    In an episode no class and no image comes twice; episodes are drawn independently of each other.

    Args:
        way: W, classes of an episode, 2 or more.
        shot: S, images of a class that its prototype is made of.
        queries: Q, images of a class that are compared with the prototypes.
        episodes: how many there are in an epoch.

    Raises:
        UserError: a number that is too small.
    """

    smallest: ClassVar[int] = 1
    level: ClassVar[bool] = True

    way: int
    shot: int
    queries: int
    episodes: int

    def __post_init__(self) -> None:
        for name, least in {"way": 2, "shot": 1, "queries": 1, "episodes": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: an episode needs {least} or more")

    def __str__(self) -> str:
        return f"episodes of {self.way} classes with {self.shot} + {self.queries} images"

    @property
    def group(self) -> int:
        return self.way * (self.shot + self.queries)

    def order(self, labels: Tensor, batch_size: int, random: torch.Generator) -> Tensor:
        return self.draw(labels, random).flatten()

    def draw(self, labels: Tensor, random: torch.Generator) -> Tensor:
        """Draw all episodes of an epoch as sample indices, [E, W, S + Q]. labels: [N], class numbers from 0."""
        self.check(labels)
        counts = labels.bincount()
        first = counts.cumsum(0) - counts
        classes = torch.rand(self.episodes, len(counts), generator=random).argsort(dim=1)[:, : self.way].flatten()
        places = choose(counts[classes], self.shot + self.queries, random)
        images = labels.argsort(stable=True)[first[classes, None] + places]
        return images.view(self.episodes, self.way, -1)

    def check(
        self,
        labels: Tensor,
        class_names: Sequence[str] = (),
        where: str = "the training images",
        options: tuple[str, str] = ("way", "queries"),
    ) -> None:
        """Raise UserError where episodes cannot be made of images with these labels; names the classes at fault.

        options: what the user calls the number of classes and of queries.
        """
        way, queries = options
        names = class_names or [str(number) for number in range(int(labels.max()) + 1)]
        if len(names) < self.way:
            raise UserError(
                f"{where} have {len(names)} classes, and an episode {way}={self.way} of them: give a smaller {way}, "
                "or more classes"
            )
        needed = self.shot + self.queries
        counts = labels.bincount(minlength=len(names))
        if few := [f"{names[number]} ({counts[number]})" for number in (counts < needed).nonzero()[:, 0].tolist()]:
            raise UserError(
                f"{where} have too few of {listed(few)}: an episode takes shot={self.shot} images of a class and "
                f"{queries}={self.queries} others, {needed} in all; give fewer {queries}, or more images"
            )


def choose(sizes: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw ``count`` different numbers below each size, in random order: [R] → [R, count].

    Floyd's algorithm (Bentley, Communications of the ACM, 1987) for all rows at once, in memory that does not depend
    on the sizes; then each row is shuffled, for the algorithm's own order is not random.
    """
    chosen = torch.full((len(sizes), count), -1)
    for place in range(count):
        limit = sizes - count + place
        drawn = (torch.rand(len(sizes), generator=random, dtype=torch.float64) * (limit + 1)).long()
        taken = (chosen == drawn[:, None]).any(dim=1)
        chosen[:, place] = torch.where(taken, limit, drawn)
    return chosen.gather(1, torch.rand(chosen.shape, generator=random).argsort(dim=1))
