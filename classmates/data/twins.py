"""Images that a data set has more than once: of those in two parts, one is trained on and the other judges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classmates._text import plural
from classmates.data.groups import DIVIDED
from classmates.data.parts import Split
from classmates.data.readers.images import decode

SAME = "with the same pixels as one in another part"
"""The words by which a note on such images is known."""
TWO_LABELS = "the same pixels have two labels"
"""The words by which a note on images that are in two classes is known."""


class Part(NamedTuple):
    """A part of a data set. moments: [N, 2, C], of its images, as in Source."""

    split: Split
    moments: Tensor

    def take(self, indices: Tensor) -> Part:
        """Return some of the images, in this order; the classes stay as they are."""
        return Part(self.split.take(indices), self.moments[indices])


def tell_twins(name: str, parts: Mapping[str, Part]) -> str | None:
    """Return how many images are in two parts of the data set of this name, and one such pair; None if none is."""
    twins = find_twins(parts)
    if not twins:
        return None
    (first, one), (second, other) = twins[0]
    return (
        f"images of '{name}' {SAME}: {len(twins)}, such as {_with_class(parts[first].split, one)} ({first}) and "
        f"{_with_class(parts[second].split, other)} ({second})"
    )


def notes_on_twins(notes: Iterable[str]) -> list[str]:
    """Return those of a run's notes that tell of images, or of groups of them, in two parts."""
    return [text for text in notes if SAME in text or DIVIDED in text]


def find_twins(parts: Mapping[str, Part]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of (part, index) of images in different parts with the same pixels, the first part first."""
    return [(alike[0], other) for alike in _alike(parts) for other in alike[1:] if other[0] != alike[0][0]]


def find_copies(part: Part) -> Tensor:
    """Return for each image the index of the first with the same pixels, [N]: its own where there is none before."""
    firsts = torch.arange(len(part.split))
    for alike in _alike({"": part}):
        indices = [index for _, index in alike]
        firsts[indices] = indices[0]
    return firsts


def tell_copies(name: str, images: Split, firsts: Tensor) -> str | None:
    """Return how many images of the data set of this name have a copy, and one such pair; None if none has.

    firsts: [N], as ``find_copies`` has them.
    """
    copies = (firsts != torch.arange(len(firsts))).nonzero()[:, 0].tolist()
    if not copies:
        return None
    count = len(copies) + len(firsts[copies].unique())
    first = name_of(images, int(firsts[copies[0]]))
    copy = name_of(images, copies[0])
    return f"{count:,} images of '{name}' have the same pixels as another one, such as {first} and {copy}"


def tell_two_labels(images: Split, firsts: Tensor) -> str | None:
    """Return one pair of copies that are in two classes, and how many more such pairs there are; None if none is.

    firsts: [N], as ``find_copies`` has them.
    """
    unlike = (images.labels != images.labels[firsts]).nonzero()[:, 0]
    if not len(unlike):
        return None
    copy, more = int(unlike[0]), len(firsts[unlike].unique()) - 1
    pair = " and ".join(_with_class(images, index) for index in (int(firsts[copy]), copy))
    others = f" ({plural(more, 'more such pair')}: `classmates data` lists them all)" if more else ""
    return f"{TWO_LABELS}: {pair}; remove the wrong one{others}"


def _alike(parts: Mapping[str, Part]) -> list[list[tuple[str, int]]]:
    """Return the groups of (part, index) of two or more images with the same pixels, in the order of the parts.

    Images are decoded, or compared in memory, only where the bits of their mean and mean square have the same hash:
    those of a JPEG of 512 pixels or more are of a part of its pixels, and its copy in another format is not found.
    """
    keys = {name: _keys(part.moments) for name, part in parts.items()}
    values, counts = np.unique(np.concatenate([*keys.values()]), return_counts=True)
    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, key in keys.items():
        for index in np.flatnonzero(np.isin(key, values[counts > 1])).tolist():
            groups[_pixels(parts[name].split, index)].append((name, index))
    return [alike for alike in groups.values() if len(alike) > 1]


def _keys(moments: Tensor) -> np.ndarray:
    """Return a number for the bits of each image's moments, [N]: the same for the same, and seldom for others."""
    bits = np.ascontiguousarray(moments.flatten(1).numpy()).view(np.uint64)
    odd = 2 * np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) + 1
    # Signed, as NumPy 2.0 looks for no number above 2**63 - 1 among others.
    return (bits * odd).sum(axis=1, dtype=np.uint64).view(np.int64)


def _pixels(split: Split, index: int) -> str:
    """Return a hash of an image's size and pixels: of the file it came from, or else of those in memory."""
    if split.images is not None:
        pixels = split.images[index].numpy()
    else:
        assert split.paths is not None
        pixels = np.asarray(decode(split.paths[index], 3))
    return pixel_hash(pixels)


def _with_class(split: Split, index: int) -> str:
    """Return what to call an image in a message, with its class."""
    return f"{name_of(split, index)} of class '{split.class_names[split.labels[index]]}'"


def pixel_hash(pixels: np.ndarray) -> str:
    """Return a hash of an image's size and pixels: 128-bit BLAKE2b, hexadecimal."""
    digest = blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def name_of(split: Split, index: int) -> str:
    """Return what to call an image in a message: its file, or its number where it comes from none."""
    file = None if split.paths is None else split.paths[index]
    return f"image {index}" if file is None or isinstance(file, Image.Image) else str(file)
