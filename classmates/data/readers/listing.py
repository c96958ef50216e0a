"""The images that a data set's reader has found, read: all into memory where they are small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from classmates.data.parts import Source, Split
from classmates.data.readers.cache import cached, fingerprint
from classmates.data.readers.images import IN_MEMORY, Checks, check_all, unreadable
from classmates.errors import UserError

STREAMED = 224
"""The size, in pixels, at which larger images are used unless the user says otherwise."""


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


def read_listing(
    listing: Listing, *, image_size: int | None, channels: int | None, on_bad_image: Literal["error", "skip"]
) -> Source:
    """Read every image once to see that it is whole, and keep small ones.

    Images of one size, at most 64 pixels a side, and any image if the image size asked for is at most 64, are kept in
    memory; others are read when needed. What reading them has shown, and small images themselves, are kept in the
    cache: the next time, none is read.

    Raises:
        UserError: there is one class, a class has no readable image, or an image cannot be read and ``on_bad_image``
            is "error".
    """
    if len(listing.class_names) < 2:
        raise UserError(
            f"{listing.where} has one class only, '{listing.class_names[0]}'; a classifier needs two or more"
        )
    notes = list(listing.notes)
    fitted = (image_size, image_size) if image_size is not None and image_size <= IN_MEMORY else None
    found = _through_cache(listing, channels or 3, fitted, notes)
    parts, checks, bad = _without_bad(listing, found, channels or 3, fitted, on_bad_image)
    if bad:
        notes.append(skipped(bad))
    require_images(listing, parts)
    if several := sum(int((check.frames > 1).sum()) for check in checks.values()):
        notes.append(f"images with several frames or pages, of which the first is used: {several}")
    if channels is None:
        channels = 1 if all(bool(check.grey.all()) for check in checks.values()) else 3
    sizes = torch.cat([check.sizes for check in checks.values()]).unique(dim=0).tolist()
    size, in_memory = _choose_size({(width, height) for width, height in sizes}, image_size, notes)
    for part, split in parts.items():
        # Of grey images read as RGB, one channel is as good as another.
        images = split.images[..., :channels].contiguous() if in_memory and split.images is not None else None
        parts[part] = replace(split, images=images)
    return Source(
        name=listing.name,
        image_size=size,
        moments=checks["train"].moments[:, :, :channels],
        train=parts["train"],
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
    of = [Path(listing.where).absolute(), *(f"{part}: {len(split)}" for part, split in listing.parts.items())]
    return cached("images", [*of, channels, fitted], fingerprint(listing.stored_in), look, notes)


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
            f"among them:\n{shown}\nmend or remove them, or leave them out with --on_bad_image skip"
        )
    return parts, checks, tuple(bad)


def skipped(unreadable: Sequence[str]) -> str:
    """Return the note on images that were left out; some are named."""
    more = f"; and {len(unreadable) - 20} more" if len(unreadable) > 20 else ""
    return f"{len(unreadable)} unreadable images skipped: " + "; ".join(unreadable[:20]) + more


def require_images(listing: Listing, parts: dict[str, Split]) -> None:
    """Raise UserError where a class has no image in a part."""
    for part, split in parts.items():
        counts = split.labels.bincount(minlength=len(split.class_names)).tolist()
        if empty := [name for name, count in zip(split.class_names, counts, strict=True) if not count]:
            raise UserError(
                f"no readable image in {listing.where} ({part}) for {listed(empty)}: add images or remove the class"
            )


def listed(classes: Sequence[str]) -> str:
    """Write ``class 'a'``, or ``classes 'a', 'b', 'c', 'd', 'e' and 3 more classes``."""
    more = f" and {len(classes) - 5} more classes" if len(classes) > 5 else ""
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(f"'{name}'" for name in classes[:5]) + more


def _choose_size(
    sizes: set[tuple[int, int]], image_size: int | None, notes: list[str]
) -> tuple[tuple[int, int], bool]:
    """Return the (height, width) to train at, and whether the images are kept in memory."""
    if image_size is not None:
        return (image_size, image_size), image_size <= IN_MEMORY
    if len(sizes) == 1:
        [(width, height)] = sizes
        if max(width, height) <= IN_MEMORY:
            return (height, width), True
        if width == height <= STREAMED:
            return (height, width), False
    described = "one size" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    notes.append(f"the images have {described}: used at {STREAMED}x{STREAMED} pixels (image_size changes that)")
    return (STREAMED, STREAMED), False
