"""Split images of the same classes into training, validation and test images, copies and groups undivided."""

from __future__ import annotations

import torch

from classmates.data.groups import connected, grouped_split, tell_divided
from classmates.data.parts import ImageData, Source
from classmates.data.splits import TEST_FRACTION, TEST_SEED, held_out, stratified_subset
from classmates.data.twins import Part, find_copies, tell_copies, tell_twins, tell_two_labels

SPLIT_OFF = "no test set given (test/)"
"""The words with which the note begins that the test images were split off."""
TOGETHER = (
    "where images are put aside for validation or test, copies go together, so that none is trained on and scored "
    "too (only a class that has little else is divided all the same)"
)
"""What becomes of images with the same pixels."""
FAR_MORE = 1.5
"""Of groups one of each class at least is held out: where that is so much more than was asked for, a note says so."""


def split_images(
    source: Source, train_size: int | None, val_fraction: float, seed: int, *, published: bool
) -> ImageData:
    """Split off the test and validation images that are not given, then leave train_size images to train on.

    Images with the same pixels, and those of one group, stay on one side.

    Args:
        source: the images of each part there is; training images at least.
        train_size, val_fraction, seed: as in ``load``.
        published: whether the parts are a published benchmark's, which are not searched for copies.

    Returns:
        The parts, with notes on what was decided.

    Raises:
        UserError: there are too few images for what was asked.
    """
    images = source.train
    assert images is not None  # without training images there is nothing to split
    names = images.class_names
    labels = images.labels
    notes: tuple[str, ...] = ()
    train = torch.arange(len(labels))
    test, val = source.test, source.val
    moments = dict(source.moments)
    copies = groups = train
    if not published and (test is None or (val is None and val_fraction > 0)):
        copies = groups = find_copies(Part(images, moments["train"]))
        if told := tell_copies(source.name, images, copies):
            notes += (f"{told}: {TOGETHER}",)
        if told := tell_two_labels(images, copies):
            notes += (told,)
        if images.groups is not None:
            groups = connected(groups, images.groups)
    if test is None:
        part = f"the test set ({TEST_FRACTION:.0%} of the images, as no test/ is given)"
        fix = "put test images into test/ beside train/, or add images until there are 5 a class on average"
        kept, off = grouped_split(labels, groups, TEST_FRACTION, TEST_SEED, part=part, class_names=names, fix=fix)
        test, train = images.take(off), train[kept]
        moments["test"] = moments["train"][off]
        share = f"{TEST_FRACTION:.0%} of the images, {len(off)}"
        if images.groups is not None:
            share = f"{_count(groups[off])} of {_count(groups)} groups, {len(off)} of {len(groups)} images"
        notes += (f"{SPLIT_OFF}: {share}, were split off as one",)
    known = {"train": images.take(train), "val": val, "test": test}
    moments["train"] = moments["train"][train]
    twins = tell_twins(source.name, {part: Part(split, moments[part]) for part, split in known.items() if split})
    if twins is not None:
        ours = "scores on them are too good: remove one of the two (`classmates data` lists them)"
        notes += (f"{twins}; {'the parts are as they were published' if published else ours}",)
    if val is None and val_fraction > 0:
        part = f"the validation set (val_fraction {val_fraction:g})"
        beside = " beside those of the test set" if source.test is None else ""
        size = held_out(val_fraction, labels[train])
        how = {"part": part, "class_names": names, "beside": beside}
        kept, off = grouped_split(labels[train], groups[train], size, seed, **how)
        of_copies = copies[train]
        if both := int(torch.isin(of_copies[off], of_copies[kept]).sum()):
            notes += (
                f"images of '{source.name}' held out for validation of which a copy is trained on: {both}, as their "
                "classes have few others; scores on them are too good",
            )
        of_all = f"{len(off)} of {len(train)} images are held out"
        val, train = images.take(train[off]), train[kept]
        if images.groups is not None and len(off) > FAR_MORE * val_fraction * (len(off) + len(kept)):
            notes += (f"for validation {of_all}, in whole groups, of each class one at least",)
        elif size != val_fraction:
            notes += (
                f"for validation {len(off)} images are held out, one of each class: {val_fraction:.0%} are fewer",
            )
    if train_size is not None:
        train = train[stratified_subset(labels[train], train_size, seed)]
    divided = tell_divided(source.name, {"train": images.take(train), "val": val, "test": test})
    if divided is not None:
        notes += (divided,)
    return source.split_into(images.take(train), source.moments["train"][train], val, test, notes)


def _count(groups: torch.Tensor) -> int:
    return len(groups.unique())
