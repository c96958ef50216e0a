"""A contact sheet: training images as they are, and as a network gets them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from classmates._files import output_file
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled
from classmates.data.parts import ImageData
from classmates.data.readers.images import decode, stack
from classmates.data.resizing import fit
from classmates.reporting.theme import FONTS, missing_letters_unsaid

MOST = 32
COLUMNS = 8
LONGEST_NAME = 18


def augmented_batch(data: ImageData, augmentation: Augmentation, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return some training images, from the loader that training uses, in the order of their labels.

    Returns:
        Their indices, [n]; the images before augmentation (only brought to the image size), [n, H, W, C] in uint8;
        and after.
    """
    sampler = EpochSampler(Shuffled(), data.train.labels, min(MOST, len(data.train)), seed=seed)
    batch = next(iter(train_loader(data, sampler, augmentation, seed=seed, num_workers=0)))
    by_label = batch.labels.argsort(stable=True)[:MOST]
    indices = batch.indices[by_label]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    after = ((batch.images[by_label] * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if data.train.images is not None:
        return indices, data.train.images[indices], after
    files = data.train.paths
    assert files is not None  # one or the other
    before = stack(fit(decode(files[index], data.channels), data.image_size) for index in indices.tolist())
    return indices, before, after


def draw_contact_sheet(before: Tensor, after: Tensor, names: Sequence[str], path: Path) -> None:
    """Draw the same images twice, [n, H, W, C] in uint8, with the class of each above it, into a PNG file.

    Raises:
        UserError: it cannot be written.
    """
    rows = -(-len(names) // COLUMNS)
    _, height, width, _ = before.shape
    tallest = min(height / width, 3)  # of very tall images a sheet would be too large to draw
    figure = Figure(figsize=(10, 2 * (0.5 + rows * 1.25 * tallest)), layout="constrained")
    for axes, images, title in zip(
        figure.subplots(2),
        (before, after),
        ("Training images, before augmentation", "The same images as the network gets them: augmented"),
        strict=True,
    ):
        axes.set_title(title, loc="left", fontsize=12, pad=14)
        for place, (image, name) in enumerate(zip(images, names, strict=True)):
            row, column = divmod(place, COLUMNS)
            left, top = column * 1.06 * width, row * (1.06 * height + 0.14 * width)
            grey = image.shape[-1] == 1
            axes.imshow(
                image[..., 0] if grey else image,
                cmap="grey",
                vmin=0,
                vmax=255,
                extent=(left, left + width, top + height, top),
                interpolation="nearest",
            )
            text = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
            axes.text(left, top - 0.02 * width, text, fontsize=8, family=FONTS, parse_math=False)
        axes.set(xlim=(0, COLUMNS * 1.06 * width), ylim=(rows * (1.06 * height + 0.14 * width), -0.1 * width))
        axes.set_axis_off()
    with output_file(path) as temporary, missing_letters_unsaid():
        figure.savefig(temporary, dpi=150)
