"""The inspection of a data set, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch.utils.data import Dataset

from classmates._files import require_writable
from classmates._shown import Shown
from classmates._text import command_lines, filled, plural
from classmates.data.augmentation import Augmentation
from classmates.data.loading import CannotSplit, load
from classmates.data.parts import ImageData, Split
from classmates.data.readers.listing import skipped
from classmates.data.twins import TWO_LABELS, name_of
from classmates.errors import UserError
from classmates.inspection.contact_sheet import augmented_batch, draw_contact_sheet
from classmates.inspection.scanning import duplicates, parts_of, scan
from classmates.inspection.suggesting import Suggestion, suggest

SHOWN = 10
"""The longest list that is printed whole."""
MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "I;16": "16-bit grey",
    "P": "palette",
    "RGB": "colour",
    "RGBA": "colour with transparency",
}


@dataclass(frozen=True, eq=False, repr=False)
class Inspection(Shown):
    """A data set in numbers; as text, a page to read.

    Args:
        data: the data set as ``train`` would have it.
        images: one row an image, as ``classmates.inspection.scanning.scan`` describes.
        duplicates: those rows whose pixels occur more than once, and whether they do in several parts.
        suggestion: where to begin.
        command: what trains with that; for a dataset in Python, the call.
        contact_sheet: the PNG file with some training images before and after augmentation.
    """

    data: ImageData
    images: pd.DataFrame
    duplicates: pd.DataFrame
    suggestion: Suggestion
    command: str
    contact_sheet: Path

    @property
    def counts(self) -> pd.DataFrame:
        """Images by class (rows, by name) and part (columns)."""
        return count_classes(parts_of(self.data))

    @property
    def sizes(self) -> pd.DataFrame:
        """The smallest, median and largest ``width`` and ``height``, upright, as stored."""
        table = self.images[["width", "height"]].agg(["min", "median", "max"])
        return table.round().astype(int)

    @property
    def modes(self) -> pd.Series:
        """The number of images stored in each of Pillow's modes, the commonest first."""
        return self.images["mode"].value_counts()

    def __str__(self) -> str:
        blocks: list[Iterable[str]] = [self._summary(), self._class_counts(), self._duplicates(), self._unreadable()]
        blocks += [self._notes(), [f"contact sheet   {self.contact_sheet}"], self._beginning()]
        return "\n\n".join("\n".join(lines) for lines in map(list, blocks) if lines)

    def _summary(self) -> Iterator[str]:
        data, sizes = self.data, self.sizes
        height, width = data.image_size
        yield f"{data.name}: {len(self.images):,} images of {data.num_classes:,} classes"
        yield ""
        different = len(self.images[["width", "height"]].drop_duplicates())
        low, median, high = (f"{w}x{h}" for w, h in zip(sizes["width"], sizes["height"], strict=True))
        if different == 1:
            yield f"stored          all {low} pixels (width x height)"
        else:
            yield f"stored          {different:,} sizes (width x height): {low} to {high} pixels, median {median}"
        yield "                " + ", ".join(
            f"{count:,} {MODES.get(str(mode), mode)}" for mode, count in self.modes.items()
        )
        kept = "kept in memory" if data.train.images is not None else "read when needed"
        yield f"used            at {width}x{height} pixels, {'grey' if data.channels == 1 else 'colour'}, {kept}"
        yield f"mean, std       {_row(data.mean)}  ±  {_row(data.std)} (of the training images, in 0..1)"

    def _class_counts(self) -> Iterator[str]:
        yield from count_lines(self.counts)
        train = self.counts["train"]
        if train.max() > train.min():
            yield (
                f"fewest to train on: {train.min():,} of '{train.idxmin()}'; "
                f"most: {train.max():,} of '{train.idxmax()}'"
            )

    def _duplicates(self) -> Iterator[str]:
        unlike = self.duplicates[self.duplicates.groupby("pixels")["label"].transform("nunique") > 1]
        if len(unlike):
            yield from _warning(f"{TWO_LABELS}; remove the wrong one:")
            yield from self._groups(unlike.drop_duplicates(["pixels", "label"]), shown=len(unlike))
        across = self.duplicates[self.duplicates["across"]]
        within = self.duplicates[~self.duplicates["across"]]
        if self.duplicates.empty:
            yield "duplicates      none: no two images have the same pixels once decoded"
        if len(across):
            yield from _warning(
                f"{len(across):,} images have the same pixels as one in another part, so scores will be too good; of "
                "each group keep those of one part:"
            )
            yield from self._groups(across, shown=len(across))
        if len(within):
            yield f"duplicates      {len(within):,} images have the same pixels as another of their part:"
            yield from self._groups(within, shown=SHOWN // 2)

    def _groups(self, twins: pd.DataFrame, shown: int) -> Iterator[str]:
        parts, groups = parts_of(self.data), twins.groupby("pixels", sort=False)
        for number, (_, group) in enumerate(groups):
            if number == shown:
                yield f"  ... and {plural(groups.ngroups - number, 'more such group')}"
                return
            names = [
                f"{part}: {name_of(parts[part], index)} ({_short(self.data.class_names[label])})"
                for part, index, label in group[["part", "index", "label"]][:3].to_numpy().tolist()
            ]
            more = f" = {len(group) - 3:,} more" if len(group) > 3 else ""
            yield "  " + "\n    = ".join(names) + more

    def _unreadable(self) -> Iterator[str]:
        reasons = self.data.unreadable
        if reasons:
            yield from _warning(
                f"{plural(len(reasons), 'image')} cannot be read; mend or remove what is named here, or train "
                "without, --on_bad_image skip (improve, compare and sweep: --train.on_bad_image skip):"
            )
            yield from (f"  {reason}" for reason in reasons[:SHOWN])
        if len(reasons) > SHOWN:
            yield f"  ... and {len(reasons) - SHOWN:,} more"

    def _notes(self) -> Iterator[str]:
        for note in self.data.notes:
            if note != skipped(self.data.unreadable) and TWO_LABELS not in note:
                yield from filled(f"note: {note}", indent="      ")

    def _beginning(self) -> Iterator[str]:
        yield from filled(f"begin with      {self.suggestion}", indent=" " * 16)
        yield from command_lines(f"  {self.command}")


def inspect(
    data: str | Path | Dataset[Any],
    *,
    data_dir: Path | None = None,
    label: str | None = None,
    image_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    augmentation: Augmentation = Augmentation(),
    out: Path | None = None,
) -> Inspection:
    """Show what a data set holds, as training would see it, and draw a contact sheet of it.

    Every image is read: their counts, sizes and modes, which have the same pixels (a warning where they are in
    different parts, the test images in the training set), and which cannot be read, and why.

    Args:
        data: what to look at: whatever ``train`` takes.
        data_dir: where the files of a data set known by name are.
        label: which labels, where the data have several.
        image_size: pixels of the square that the network gets; by the images' own sizes if not given.
        val_fraction: share of the training images that training would hold out where the data have no validation
            images.
        seed: of the validation split, and of the images on the contact sheet.
        augmentation: how training images are varied; to be seen on the contact sheet.
        out: the contact sheet, a PNG file; contact_sheet-DATA.png if not given.

    Returns:
        Counts, sizes, duplicates and the rest as values; as text, a page to read.

    Raises:
        UserError: the data cannot be trained on at all, such as a folder with one class, ``out`` is no .png file,
            or the contact sheet cannot be written.
    """
    if out is not None and Path(out).suffix.lower() != ".png":
        raise UserError(f"out is '{out}'; give a file that ends in .png")
    if out is not None:
        require_writable(Path(out))
    try:
        found = load(
            data,
            data_dir=data_dir,
            label=label,
            image_size=image_size,
            val_fraction=val_fraction,
            seed=seed,
            on_bad_image="skip",
        )
    except CannotSplit as error:
        counts = "" if error.source is None else "\n".join(count_lines(count_classes(parts_of(error.source))))
        raise UserError(f"{error}\n\n{counts}") from error
    images = scan(found)
    path = Path(out or f"contact_sheet-{found.name.replace('/', '_')}.png")
    suggestion = suggest(found, images, image_size)
    if augmentation.crop_scale is None:
        augmentation = replace(augmentation, crop_scale=suggestion.crop_scale)
    indices, before, after = augmented_batch(found, augmentation, seed)
    names = [found.class_names[label] for label in found.train.labels[indices].tolist()]
    draw_contact_sheet(before, after, names, path)
    place = {"data": data, "data_dir": data_dir, "label": label}
    command = suggestion.command(place | ({"on_bad_image": "skip"} if found.unreadable else {}))
    return Inspection(found, images, duplicates(images), suggestion, command, path)


def count_classes(parts: Mapping[str, Split]) -> pd.DataFrame:
    """Return the images by class (rows, by name) and part (columns); the parts have the same classes."""
    counts = {part: split.labels.bincount(minlength=len(split.class_names)) for part, split in parts.items()}
    names = next(iter(parts.values())).class_names
    return pd.DataFrame({part: count.numpy() for part, count in counts.items()}, index=pd.Index(names, name="class"))


def count_lines(counts: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table of counts, as ``count_classes`` gives it; of many classes the first and last."""
    shown = counts
    if len(counts) > SHOWN:
        shown = pd.concat([counts[: SHOWN // 2], counts[-SHOWN // 2 :]])
    width = max(14, *map(len, map(_short, shown.index)))
    column = 2 + max(7, *(len(f"{count:,}") for count in counts.sum()))

    def line(name: str, cells: Iterable[str]) -> str:
        return f"{name:<{width}}" + "".join(f"{cell:>{column}}" for cell in cells)

    yield line("class", counts.columns)
    for place, (name, row) in enumerate(shown.iterrows()):
        if len(counts) > SHOWN and place == SHOWN // 2:
            yield f"... {len(counts) - SHOWN:,} more"
        yield line(_short(str(name)), (f"{count:,}" for count in row))
    yield line("all", (f"{count:,}" for count in counts.sum()))


def _warning(text: str) -> list[str]:
    return filled(f"WARNING: {text}", indent=" " * len("WARNING: "))


def _row(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"
