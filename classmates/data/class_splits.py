"""Parts of a data set that have different classes, as few-shot learning needs them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classmates.data.batches.randomness import generator
from classmates.data.parts import ImageData, Source, Split
from classmates.data.readers.images import decode
from classmates.data.splits import TEST_FRACTION, TEST_SEED, stratified_subset
from classmates.errors import UserError

FEWEST = 2
"""The fewest classes of a part: of one, there is nothing to tell apart."""


class Part(NamedTuple):
    """A part of a data set. moments: [N, 2, C], of its images, as in Source."""

    split: Split
    moments: Tensor

    def take(self, indices: Tensor) -> Part:
        """Return some of the images, in this order; the classes stay as they are."""
        return Part(self.split.take(indices), self.moments[indices])

    def take_classes(self, numbers: Tensor) -> Part:
        """Return the images of these classes, which are numbered from 0 in this order."""
        place = torch.full((len(self.split.class_names),), -1)
        place[numbers] = torch.arange(len(numbers))
        indices = (place[self.split.labels] >= 0).nonzero()[:, 0]
        split, moments = self.take(indices)
        names = tuple(self.split.class_names[number] for number in numbers.tolist())
        return Part(replace(split, labels=place[split.labels], class_names=names), moments)


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
    return part.take_classes(order[off:].sort().values), part.take_classes(order[:off].sort().values)


def _named(part: Part) -> str:
    names = part.split.class_names
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} classes ({', '.join(names[:5])}{more})"


def _look_for_twins(source: Source, parts: Mapping[str, Part], published: bool) -> list[str]:
    """Find images whose pixels are in two parts: an error, or notes where the parts were published so."""
    twins = [
        f"{_image(parts[first], one)} ({first}) and {_image(parts[second], other)} ({second})"
        for (first, one), (second, other) in find_twins(parts)
    ]
    if not twins:
        return []
    told = f"images of '{source.name}' with the same pixels as one in another part: {len(twins)}, such as {twins[0]}"
    if not published:
        raise UserError(f"{told}; remove one of the two, as an image must not be trained on and judged by")
    return [f"{told}; the parts are as they were published"]


def find_twins(parts: Mapping[str, Part]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of (part, index) of images in different parts that have the same pixels, the first part first.

    Images are decoded, or compared in memory, only where their mean and mean square are the same to the bit.
    """
    by_moments: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for name, part in parts.items():
        for index, moments in enumerate(part.moments.numpy()):
            by_moments[moments.tobytes()].append((name, index))
    pairs = []
    for alike in by_moments.values():
        if len({name for name, _ in alike}) == 1:
            continue
        first_with: dict[bytes, tuple[str, int]] = {}
        for name, index in alike:
            first = first_with.setdefault(_pixels(parts[name].split, index), (name, index))
            if first[0] != name:
                pairs.append((first, (name, index)))
    return pairs


def _pixels(split: Split, index: int) -> bytes:
    """Return a hash of an image's size and pixels: of the file it came from, or else of those in memory."""
    if split.images is not None:
        pixels = split.images[index].numpy()
    else:
        assert split.paths is not None
        pixels = np.asarray(decode(split.paths[index], 3))
    return blake2b(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()


def _image(part: Part, index: int) -> str:
    """Return what to call an image in a message, with its class."""
    split = part.split
    file = None if split.paths is None else split.paths[index]
    name = f"image {index}" if file is None or isinstance(file, Image.Image) else str(file)
    return f"{name} of class '{split.class_names[split.labels[index]]}'"
