"""``load``: whatever the user calls a data set, split, counted and measured."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from classmates.data.datasets import read_dataset
from classmates.data.folder import read_folder
from classmates.data.images import convert, fit, stack
from classmates.data.parts import ImageData, Source, Split, mean_and_std, moments_of
from classmates.data.splits import stratified_split, stratified_subset
from classmates.errors import UserError, unknown

__all__ = ["NAMES", "ImageData", "Split", "load"]

NAMES = ("digits",)
"""The data sets that are known by name."""

TEST_SEED = 0
"""Decides which images become the test set where none is published: the same ones whatever the user's seed."""
TEST_FRACTION = 0.2


def load(
    data: str | Path | Dataset[Any],
    *,
    image_size: int | None = None,
    channels: int | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
) -> ImageData:
    """Load a data set and split it: the test set first, then the validation set, then a smaller training set.

    Args:
        data: a name (``digits``); a folder with ``train/CLASS/*`` and, if you have them, ``val/`` and ``test/``, or
            with class folders right in it; or a map-style dataset of (image, label). A text is a folder if it has
            a slash or such a folder exists, else a name. Without test images, a stratified 20 % are split off,
            always the same ones.
        image_size: side in pixels. Default: the images' own where all are of one size up to 64 pixels a side, or
            square and up to 224; else 224. Up to 64 the images are kept in memory.
        channels: 1 (grey) or 3; images are converted. Default: 1 if every image is grey.
        train_size: train on only so many images, each class in proportion.
        val_fraction: how much of the training images to validate on where no validation images are given, each class
            in proportion; 0 for none.
        seed: decides which images become validation and, with train_size, training images.
        on_bad_image: what to do about images that cannot be read: stop, or leave them out and say so.

    Raises:
        UserError: any of these cannot work, or the images cannot.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size is {image_size}; give a number of pixels, 1 or more")
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}; images have 1 (grey) or 3 (colour)")
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction is {val_fraction}; give a fraction from 0 (no validation) to below 1")
    if on_bad_image not in ("error", "skip"):
        raise unknown("on_bad_image", on_bad_image, ("error", "skip"))

    if not isinstance(data, (str, Path)):
        source = read_dataset(data, image_size=image_size, channels=channels)
    elif _is_folder(data):
        folder = Path(data).expanduser()
        source = read_folder(folder, image_size=image_size, channels=channels, on_bad_image=on_bad_image)
        if str(data) in NAMES:
            note = f"the folder {folder.resolve()} was read, not the data set of that name"
            source = replace(source, notes=(*source.notes, note))
    elif data == "digits":
        source = _digits(image_size, channels)
    else:
        raise UserError(f"{unknown('data set', str(data), NAMES)} (or give the path of a folder of class folders)")
    return _split(source, train_size, val_fraction, seed)


def _is_folder(data: str | Path) -> bool:
    return isinstance(data, Path) or os.sep in data or "/" in data or Path(data).expanduser().is_dir()


def _digits(image_size: int | None, channels: int | None) -> Source:
    """Scikit-learn's handwritten digits, 1,797 of 8x8 pixels in 17 shades of grey; no test set is published."""
    from sklearn.datasets import load_digits  # a second to import, needed here alone

    digits = load_digits()
    size = (image_size or 8, image_size or 8)
    shades = np.rint(digits.images * 255 / 16).astype(np.uint8)
    images = stack(fit(convert(Image.fromarray(shade), channels or 1), size) for shade in shades)
    every = Split(torch.from_numpy(digits.target).long(), images)
    kept, test = stratified_split(every.labels, 797, TEST_SEED)
    return Source(
        name="digits",
        class_names=tuple("0123456789"),
        image_size=size,
        moments=moments_of(images[kept]),
        train=every.take(kept),
        test=every.take(test),
        flip=False,
    )


def _split(source: Source, train_size: int | None, val_fraction: float, seed: int) -> ImageData:
    names, notes = source.class_names, source.notes
    labels = source.train.labels
    train = torch.arange(len(labels))
    test, val = source.test, source.val
    if test is None:
        part = f"the test set ({TEST_FRACTION:.0%} of the images, as no test/ is given)"
        kept, off = stratified_split(labels, TEST_FRACTION, TEST_SEED, part=part, class_names=names)
        test, train = source.train.take(off), train[kept]
        notes += (f"no test set given (test/): {TEST_FRACTION:.0%} of the images, {len(off)}, were split off as one",)
    if val is None and val_fraction > 0:
        part = f"the validation set (val_fraction {val_fraction:g})"
        kept, off = stratified_split(labels[train], val_fraction, seed, part=part, class_names=names)
        val, train = source.train.take(train[off]), train[kept]
    if train_size is not None:
        train = train[stratified_subset(labels[train], train_size, seed)]
    mean, std = mean_and_std(source.moments[train])
    return ImageData(
        name=source.name,
        class_names=names,
        channels=len(mean),
        image_size=source.image_size,
        mean=mean,
        std=std,
        train=source.train.take(train),
        val=val,
        test=test,
        notes=notes,
        flip=source.flip,
    )
