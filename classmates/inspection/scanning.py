"""Every image of a data set looked at, as it is stored: sizes, modes, and which have the same pixels."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from classmates.data.parts import ImageData, ImageFile, Source, Split
from classmates.data.readers.images import convert, for_all, upright
from classmates.data.readers.opening import opened
from classmates.data.twins import pixel_hash


class Look(NamedTuple):
    """One image. width, height: upright. mode: Pillow's name of how pixels are stored. pixels: a hash of them."""

    width: int
    height: int
    mode: str
    pixels: str


def scan(data: ImageData) -> pd.DataFrame:
    """Look at every image.

    Two images with the same hash have the same size and the same pixels once decoded (upright, eight bits, RGB),
    whatever their files are called and however they are compressed.

    Returns:
        One row an image: ``part`` ("train", "val", "test"), ``index`` within it, ``label``, ``width``, ``height``,
        ``mode``, ``pixels`` (128-bit BLAKE2b, hexadecimal).
    """
    frames = []
    for part, split in parts_of(data).items():
        looks = for_all(partial(_look, split), len(split), f"looking at {part} images")
        frame = pd.DataFrame(looks, columns=Look._fields)
        frame.insert(0, "part", part)
        frame.insert(1, "index", np.arange(len(split)))
        frame.insert(2, "label", split.labels.numpy())
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def duplicates(scanned: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``scan`` whose pixels occur more than once, those that are equal one after another.

    Returns:
        The same columns and ``across``: whether the same pixels are in several parts.
    """
    twins = scanned[scanned.duplicated("pixels", keep=False)]
    across = twins.groupby("pixels")["part"].transform("nunique") > 1
    first = twins.groupby("pixels")["index"].transform(lambda indices: indices.index[0])
    order = first.sort_values(kind="stable").index
    return twins.assign(across=across.astype(bool)).loc[order]


def parts_of(data: ImageData | Source) -> dict[str, Split]:
    """Return the splits that there are, by name."""
    every = {"train": data.train, "val": data.val, "test": data.test}
    return {part: split for part, split in every.items() if split is not None}


def _look(split: Split, index: int) -> Look:
    if split.paths is not None:
        return _look_at_file(split.paths[index])
    assert split.images is not None  # one or the other
    height, width, channels = split.images.shape[1:]
    return Look(width, height, "L" if channels == 1 else "RGB", pixel_hash(split.images[index].numpy()))


def _look_at_file(file: ImageFile) -> Look:
    with opened(file) as image:
        mode = image.mode
        shown = convert(upright(image), 3)
    return Look(*shown.size, mode, pixel_hash(np.asarray(shown)))
