"""The images that a data set's reader has found, read: all into memory where they are small."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from classmates._names import in_unicode, name_of_class
from classmates._text import plural
from classmates.data.parts import Source, Split
from classmates.data.readers.cache import cached, fingerprint
from classmates.data.readers.images import IN_MEMORY, Checks, check_all, unreadable
from classmates.data.readers.opening import PIXEL_LIMIT
from classmates.errors import UserError

STREAMED = 224
"""The size, in pixels, at which large images are used unless the user says otherwise."""


@dataclass(frozen=True, eq=False)
class Listing:
    """A data set's images, found but not yet read.

    Args:
        name: of the data set.
        where: the folder or address it came from, for messages.
        class_names: by class number, of every part that does not say its own.
        parts: "train" and, where published, "val" and "test"; each a split without pixels.
        notes: what was decided for the user and must be said.
        flip: whether a mirrored image is still one of its class.
        stored_in: the files on disk that hold the images, in the order of the parts; as long as they stay as they
            are, so do the images, and what is made of them is kept in the cache.
    """

    name: str
    where: Path | str
    class_names: tuple[str, ...]
    parts: dict[str, Split]
    notes: tuple[str, ...] = ()
    flip: bool = True
    stored_in: Sequence[Path] = ()

    def __post_init__(self) -> None:
        """Write names as they are written everywhere: see ``in_unicode`` and ``name_of_class``."""
        for field, value in {
            "name": in_unicode(self.name),
            "class_names": tuple(map(name_of_class, self.class_names)),
            "notes": tuple(map(in_unicode, self.notes)),
        }.items():
            object.__setattr__(self, field, value)

    def only(self, part: str) -> Listing:
        """Return the images of one part, or all where there are no parts, to be tested on; UserError without any."""
        if self.parts.keys() == {"train"}:
            return replace(self, parts={"test": self.parts["train"]}, notes=(*self.notes, all_scored(self.where)))
        if part not in self.parts:
            there = " or ".join(f"--split {name}" for name in self.parts)
            raise UserError(f"{self.where} has no {part} images: take another part ({there})")
        return replace(self, parts={"test": self.parts[part]})


def read_listing(
    listing: Listing, *, image_size: int | None, channels: int | None, on_bad_image: Literal["error", "skip"]
) -> Source:
    """Read every image once to see that it is whole, and keep small ones.

    Images of which none has a side above 64 pixels, and any if the image size asked for is at most 64, are kept in
    memory; others are read when needed. What reading them has shown, and small images themselves, are kept in the
    cache: the next time, none is read.

    Raises:
        UserError: a training class or a part has no readable image, or an image cannot be read and ``on_bad_image``
            is "error".
    """
    notes = list(listing.notes)
    fitted = (image_size, image_size) if image_size is not None and image_size <= IN_MEMORY else None
    found = _through_cache(listing, channels or 3, fitted, notes)
    parts, checks, bad = _without_bad(listing, found, channels or 3, fitted, on_bad_image)
    if bad:
        notes.append(skipped(bad))
    notes += require_images(listing, parts)
    if several := sum(int((check.frames > 1).sum()) for check in checks.values()):
        notes.append(f"images with several frames or pages, of which the first is used: {several}")
    if dark := note_on_depth(torch.cat([check.highest for check in checks.values()])):
        notes.append(dark)
    if alike := alike_but_for_capitals(listing.class_names):
        notes.append(f"classes whose names differ in capitals alone: {alike}; if they are one, give them one name")
    if channels is None:
        channels = 1 if all(bool(check.grey.all()) for check in checks.values()) else 3
    if image_size is None:
        sizes = torch.cat([check.sizes for check in checks.values()]).numpy()
        size = usual_size(sizes)
        if note := _note_on_size(sizes, size):
            notes.append(note)
            if max(size) <= IN_MEMORY:  # small ones of different sizes: read again, to be fitted to one
                listing = replace(listing, notes=(*listing.notes, note))
                return read_listing(listing, image_size=size[0], channels=channels, on_bad_image=on_bad_image)
    else:
        size = (image_size, image_size)
    in_memory = max(size) <= IN_MEMORY
    for part, split in parts.items():
        # Of grey images read as RGB, one channel is as good as another.
        images = split.images[..., :channels].contiguous() if in_memory and split.images is not None else None
        parts[part] = replace(split, images=images)
    return Source(
        name=listing.name,
        image_size=size,
        moments={part: check.moments[:, :, :channels] for part, check in checks.items()},
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts.get("test"),
        notes=tuple(notes),
        flip=listing.flip,
        unreadable=bad,
    )


def _through_cache(
    listing: Listing, channels: int, fitted: tuple[int, int] | None, notes: list[str]
) -> dict[str, Tensor]:
    """Read every image, or the cache of that: checks and small images by part and name."""
    look = partial(_look, listing.parts, channels, fitted)
    if not listing.stored_in:
        return look()
    of = [Path(listing.where).absolute(), *(f"{part}: {_which(split)}" for part, split in listing.parts.items())]
    limit = [f"{PIXEL_LIMIT} {allowed}"] if (allowed := os.environ.get(PIXEL_LIMIT)) else []
    return cached("images", [*of, channels, fitted, *limit], fingerprint(listing.stored_in), look, notes)


def _which(split: Split) -> str:
    """Return a digest of which images a part has, in their order: the same files may hold other parts' too."""
    assert split.paths is not None
    whole = hashlib.sha256()
    for mark in split.paths.identity():
        whole.update(len(mark).to_bytes(8, "big"))
        whole.update(mark)
    return whole.hexdigest()


def _look(parts: dict[str, Split], channels: int, fitted: tuple[int, int] | None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for part, split in parts.items():
        assert split.paths is not None
        checks, images = check_all(split.paths, channels, fitted)
        found |= {f"{part} {name}": column for name, column in checks._asdict().items()}
        if images is not None:
            found[f"{part} images"] = images
    return found


def _without_bad(
    listing: Listing,
    found: dict[str, Tensor],
    channels: int,
    fitted: tuple[int, int] | None,
    on_bad_image: Literal["error", "skip"],
) -> tuple[dict[str, Split], dict[str, Checks], tuple[str, ...]]:
    """Return the parts and their checks without the images that cannot be read, and what is wrong with those."""
    parts, checks = {}, {}
    bad: list[str] = []
    for part, split in listing.parts.items():
        assert split.paths is not None
        checks[part] = Checks(*(found[f"{part} {name}"] for name in Checks._fields))
        names = split.class_names or listing.class_names
        parts[part] = replace(split, images=found.get(f"{part} images"), class_names=names)
        if not checks[part].readable.all():
            # What the cache has as unreadable may be readable by now, though the file is the same: look again.
            again = (~checks[part].readable).nonzero()[:, 0]
            seen, images = check_all(split.paths.take(again), channels, fitted)
            for column, value in zip(checks[part], seen, strict=True):
                column[again] = value
            if (kept := parts[part].images) is not None and images is not None and images.shape[1:] == kept.shape[1:]:
                kept[again] = images
            bad += map(str, unreadable(split.paths, checks[part], channels))
            good = checks[part].readable.nonzero()[:, 0]
            parts[part], checks[part] = parts[part].take(good), checks[part].take(good)
    if bad and on_bad_image == "error":
        shown = "\n".join(f"  {error}" for error in bad[:5])
        raise UserError(
            f"{len(bad)} of {sum(map(len, listing.parts.values()))} images in {listing.where} cannot be read, "
            f"among them:\n{shown}\nmend or remove them, or train without them, --on_bad_image skip"
        )
    return parts, checks, tuple(bad)


def all_scored(where: Path | str) -> str:
    """Return the note on data without parts, of which nothing is split off."""
    return f"every image of {where} is scored, as it is not divided into parts (test/)"


def skipped(unreadable: Sequence[str]) -> str:
    """Return the note on images that were left out; some are named."""
    more = f"; and {len(unreadable) - 20} more" if len(unreadable) > 20 else ""
    return f"{plural(len(unreadable), 'unreadable image')} skipped: " + "; ".join(unreadable[:20]) + more


def alike_but_for_capitals(names: Sequence[str]) -> str:
    """Return those of the names, two of each kind: ``'cat' and 'Cat', ...``; empty where there are none."""
    seen: dict[str, str] = {}
    later = [name for name in names if seen.setdefault(name.casefold(), name) != name]
    pairs = [f"'{seen[name.casefold()]}' and '{name}'" for name in later]
    return ", ".join(pairs[:5])


def note_on_depth(highest: Tensor) -> str:
    """Return a note where 16-bit images use a quarter of their range or less, as those of a 12-bit sensor do; or "".

    highest: [N], the highest value of each image of 16-bit grey, 0 of others.
    """
    top = int(highest.max()) if len(highest) else 0
    bits = top.bit_length()
    if not 0 < bits <= 14:
        return ""
    return (
        f"{int((highest > 0).sum())} images of 16-bit grey have no value above {top:,} of 65,535: they are read "
        f"nearly black, in {top // 257 + 1} greys; if they come from {bits} bits, multiply them by {1 << (16 - bits)}"
    )


def require_images(listing: Listing, parts: dict[str, Split]) -> list[str]:
    """Return notes on the classes that have no image in a part other than training.

    Raises:
        UserError: a training class, or a whole part, has none.
    """
    notes = []
    for part, split in parts.items():
        empty = without_images(split)
        if empty and (part == "train" or len(split) == 0):
            raise UserError(
                f"no readable image in {listing.where} ({part}) for {listed(empty)}: add images or remove the class"
            )
        if empty:
            notes.append(f"{listing.where} ({part}) has no image of {listed(empty)}: it is not measured there")
    return notes


def without_images(split: Split) -> list[str]:
    """Return the names of the classes of which a split has no image."""
    counts = split.labels.bincount(minlength=len(split.class_names)).tolist()
    return [name for name, count in zip(split.class_names, counts, strict=True) if not count]


def listed(classes: Sequence[str]) -> str:
    """Write ``class 'a'``, or ``classes 'a', 'b', 'c', 'd', 'e' and 3 more classes``."""
    more = f" and {plural(len(classes) - 5, 'more class', 'more classes')}" if len(classes) > 5 else ""
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(f"'{name}'" for name in classes[:5]) + more


def usual_size(sizes: np.ndarray) -> tuple[int, int]:
    """Return the (height, width) at which images are used unless the user says otherwise.

    Their own where all are of one size up to 64 pixels a side, or square and up to 224. Otherwise a square: of 32 or
    64 pixels where none is larger than 64, 128 where the shorter side of half of them is below 160, else 224.

    sizes: [N, 2], width and height of every image, upright.
    """
    longest, typical = sizes.max(), np.median(sizes.min(axis=1))
    width, height = sizes[0].tolist()
    if (sizes == sizes[0]).all() and (longest <= IN_MEMORY or width == height <= STREAMED):
        return height, width
    if longest <= IN_MEMORY:
        return (32, 32) if typical <= 32 else (IN_MEMORY, IN_MEMORY)
    return (128, 128) if typical < 160 else (STREAMED, STREAMED)


def _note_on_size(sizes: np.ndarray, size: tuple[int, int]) -> str | None:
    """Return the note on the size that was chosen; None where it is that of the images."""
    different = len(np.unique(sizes, axis=0))
    height, width = size
    if different == 1 and sizes[0].tolist() == [width, height]:
        return None
    described = "one size" if different == 1 else f"{different} different sizes"
    typical = round(float(np.median(sizes.min(axis=1))))
    return (
        f"the images have {described}, the shorter side typically of {typical} pixels: used at {width}x{height} "
        "pixels (--image_size changes that)"
    )
