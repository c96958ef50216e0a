"""Parts of a data set that have different classes, as few-shot learning needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from classmates.data.batches.randomness import generator
from classmates.data.groups import tell_divided
from classmates.data.parts import ImageData, Source
from classmates.data.splits import TEST_FRACTION, TEST_SEED, stratified_subset
from classmates.data.twins import Part, tell_twins
from classmates.errors import UserError

FEWEST = 2
"""The fewest classes of a part: of one, there is nothing to tell apart."""


def split_classes(
    source: Source, train_size: int | None, val_fraction: float, seed: int, *, published: bool
) -> ImageData:
    """Return a data set of parts with different classes, each numbered from 0.

    Where no test images are given, a fifth of the classes become the test classes, always the same ones; where no
    validation images are, ``val_fraction`` of the training classes are split off, as the seed decides; two classes at
    least. ``train_size`` then takes so many of the training images, each class in proportion.

    published: whether the parts are as somebody has published them. Images that are in two parts are then noted;
    otherwise they are an error.

    Raises:
        UserError: a class, or an image, is in two parts (named), or a part has fewer than two classes.
    """
    notes = []
    every = {"train": source.train, "val": source.val, "test": source.test}
    parts = {name: Part(split, source.moments[name]) for name, split in every.items() if split is not None}
    _require_different_classes(source.name, parts)
    if "test" not in parts:
        parts["train"], parts["test"] = _split_off(parts["train"], TEST_FRACTION, TEST_SEED, "test")
        notes.append(f"no test classes given (test/): {_named(parts['test'])} were split off, always the same")
    if "val" not in parts and val_fraction > 0:
        parts["train"], parts["val"] = _split_off(parts["train"], val_fraction, seed, "validation")
        notes.append(f"no validation classes given (val/): {_named(parts['val'])} were split off, by the seed {seed}")
    for name, part in parts.items():
        if len(part.split.class_names) < FEWEST:
            raise UserError(
                f"the {name} images of '{source.name}' have one class only, '{part.split.class_names[0]}': "
                f"{FEWEST} or more are needed to tell them apart"
            )
    notes += _look_for_twins(source, parts, published)
    if divided := tell_divided(source.name, {name: part.split for name, part in parts.items()}):
        notes.append(divided)
    train = parts["train"]
    if train_size is not None:
        train = train.take(stratified_subset(train.split.labels, train_size, seed))
    val = parts["val"].split if "val" in parts else None
    return source.split_into(train.split, train.moments, val, parts["test"].split, tuple(notes))


def _require_different_classes(name: str, parts: Mapping[str, Part]) -> None:
    for (first, one), (second, other) in combinations(parts.items(), 2):
        if shared := [known for known in one.split.class_names if known in other.split.class_names]:
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise UserError(
                f"the class '{shared[0]}'{more} of '{name}' is in {first} and in {second}: each class must be in one "
                "part only, as what is learnt is judged on classes that were never seen"
            )
    for part, (split, _) in parts.items():
        if twice := [known for known, times in Counter(split.class_names).items() if times > 1]:
            raise UserError(f"two classes of the {part} images of '{name}' are called '{twice[0]}': rename one")


def _split_off(part: Part, fraction: float, seed: int, what: str) -> tuple[Part, Part]:
    """Return the part without a fraction of its classes, and those; both in the order of their names."""
    count = len(part.split.class_names)
    off = max(FEWEST, round(fraction * count))
    if count - off < FEWEST:
        raise UserError(
            f"of {count} classes, {off} cannot become {what} classes, as {FEWEST} or more must be left to train on: "
            f"give more classes{', or val_fraction 0' if what == 'validation' else ', or test classes of their own'}"
        )
    order = torch.randperm(count, generator=generator(f"{what} classes", seed))
    return _take_classes(part, order[off:].sort().values), _take_classes(part, order[:off].sort().values)


def _take_classes(part: Part, numbers: Tensor) -> Part:
    """Return the images of these classes, which are numbered from 0 in this order."""
    place = torch.full((len(part.split.class_names),), -1)
    place[numbers] = torch.arange(len(numbers))
    indices = (place[part.split.labels] >= 0).nonzero()[:, 0]
    split, moments = part.take(indices)
    names = tuple(part.split.class_names[number] for number in numbers.tolist())
    return Part(replace(split, labels=place[split.labels], class_names=names), moments)


def _named(part: Part) -> str:
    names = part.split.class_names
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} classes ({', '.join(names[:5])}{more})"


def _look_for_twins(source: Source, parts: Mapping[str, Part], published: bool) -> list[str]:
    """Find images whose pixels are in two parts: an error, or notes where the parts were published so."""
    told = tell_twins(source.name, parts)
    if told is None:
        return []
    if not published:
        raise UserError(f"{told}; remove one of the two, as an image must not be trained on and judged by")
    return [f"{told}; the parts are as they were published"]
