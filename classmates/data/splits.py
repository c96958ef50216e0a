"""Stratified splits: every class in proportion on both sides, decided by a seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from classmates.data.batches.randomness import generator, shuffled_by_class
from classmates.errors import UserError

TEST_FRACTION = 0.2
"""The fraction of the images, or of the classes, that becomes the test set where none is published."""

VAL_FRACTION = 0.1
"""The fraction of the training images that is held out where nothing is said."""

CHOOSING_FRACTION = 0.2
"""The same where methods are chosen by the images that are held out."""

TEST_SEED = 0
"""Decides which images become the test set where none is published: the same ones whatever the user's seed."""


def stratified_split(
    labels: Tensor,
    size: float,
    seed: int,
    *,
    part: str = "a part",
    class_names: Sequence[str] | None = None,
    fix: str | None = None,
    beside: str = "",
) -> tuple[Tensor, Tensor]:
    """Split a part off: exactly ``size`` samples, each class in proportion (largest remainder), one at least.

    Args:
        labels: [N], the class of each sample.
        size: how many samples are split off: an int is a count, a float a fraction of N.
        seed: decides which samples; the same seed gives the same split.
        part: what is split off, for the error messages.
        class_names: by class number, for the error messages.
        fix: what can be done where the user has no choice of the size, for the error messages.
        beside: of which images these are what is left, for the error messages: " beside those of ...".

    Returns:
        The sample indices that are kept and those split off, each ascending.

    Raises:
        UserError: a class cannot have one sample at least on each side.
    """
    count = size if isinstance(size, int) else round(size * len(labels))
    classes, numbers, counts = labels.unique(return_inverse=True, return_counts=True)
    rarest = int(counts.argmin())
    name = _name(classes[rarest], class_names)
    if counts[rarest] < 2:
        told = f"each class needs 2 images or more{beside}, for a part of none give a fraction of 0"
        if fix is not None:
            told = "each class needs 3, one for each of training, validation and test: add some, or leave it out"
        raise UserError(f"class {name} has one image{beside}, {part} cannot be split off: {told}")
    least, most = len(classes), len(labels) - len(classes)
    if not least <= count <= most:
        fractions = f"{least / len(labels):.3g} to {most / len(labels):.3g}"
        told = fix or f"choose from {least} to {most} images, a fraction of {fractions}"
        raise UserError(
            f"{part} of {count} of {len(labels)} images leaves class {name} without an image on one side: {told}"
        )
    chosen = _draw(numbers, _shares(counts, count, most=counts - 1), seed)
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def held_out(fraction: float, labels: Tensor) -> float | int:
    """Return what is held out for validation: the fraction, or one sample of each class where a usual one is fewer.

    That only up to a quarter of them: of five images a class, one being for the test, three are learnt from.
    labels: [N].
    """
    classes = len(labels.unique())
    too_few = round(fraction * len(labels)) < classes <= len(labels) / 4
    return classes if too_few and fraction in (VAL_FRACTION, CHOOSING_FRACTION) else fraction


def stratified_subset(labels: Tensor, count: int, seed: int) -> Tensor:
    """Choose ``count`` training samples, each class in proportion, one at least; returns their indices, ascending.

    Raises:
        UserError: fewer samples than classes are asked for, or more than there are.
    """
    classes, numbers, counts = labels.unique(return_inverse=True, return_counts=True)
    if not len(classes) <= count <= len(labels):
        raise UserError(
            f"train_size is {count}, but there are {len(labels)} training images of {len(classes)} classes: "
            f"choose from {len(classes)} to {len(labels)}"
        )
    return _draw(numbers, _shares(counts, count, most=counts), seed).nonzero()[:, 0]


def _shares(counts: Tensor, total: int, most: Tensor) -> Tensor:
    """Return how many of each class, [K]: proportional to counts, 1 to ``most`` of each, ``total`` altogether."""
    quotas = counts.double() * total / counts.sum()
    shares = quotas.long().clamp(min=1).minimum(most)
    while missing := total - int(shares.sum()):
        step = 1 if missing > 0 else -1
        movable = shares < most if missing > 0 else shares > 1
        shares[((quotas - shares) * step).masked_fill(~movable, -torch.inf).argmax()] += step
    return shares


def _draw(labels: Tensor, shares: Tensor, seed: int) -> Tensor:
    """Draw ``shares[c]`` samples of each class c: [N] booleans."""
    order, rank = shuffled_by_class(labels, generator("split", seed))
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[order] = rank < shares[labels[order]]
    return chosen


def _name(number: Tensor, class_names: Sequence[str] | None) -> str:
    return f"'{class_names[int(number)]}'" if class_names else str(int(number))
