"""The parts of a data set, before and after it is split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, cast, get_args

import torch
from PIL import Image
from torch import Tensor

from classmates.errors import UserError


class Encoded(NamedTuple):
    """The bytes of an image file that lies within another file. name: what to call it in messages."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Interpolation = Literal["bilinear", "bicubic"]
"""The interpolation by which an image is resized."""

ImageFile = Path | Encoded | Image.Image
"""The source of an image; one that is decoded already is taken as it is."""


class Files(Protocol):
    """The files that the images of a split are read from; nothing is read before it is asked for."""

    def identity(self) -> Iterator[bytes]:
        """Yield what tells them from other files that lie in the same place, and from these in another order."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ImageFile: ...
    def take(self, indices: Tensor, /) -> Files:
        """Return those of these indices, in their order."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: all its images in memory, or the files to read them from when needed.

    labels: [N], int64. images: [N, H, W, C], uint8, or None. paths: N files; None where images come from none. With
    both, the images are what training sees, and the files are where they came from. class_names: by class number; the
    parts of a data set may have different classes. groups: [N], int64, equal for images that no split may part, such
    as those of one patient; None where there are none.
    """

    labels: Tensor
    images: Tensor | None = None
    paths: Files | None = None
    class_names: tuple[str, ...] = ()
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Split:
        """Return the samples of these indices, in their order."""
        return Split(
            self.labels[indices],
            None if self.images is None else self.images[indices],
            None if self.paths is None else self.paths.take(indices),
            self.class_names,
            None if self.groups is None else self.groups[indices],
        )


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as a reader found it: the parts that were published, none split off yet.

    moments: by part, [N, 2, C]: for each image and channel the mean of its pixels and of their squares, in 0..1.
    train: None where only another part was asked for. The rest is as in ImageData.
    """

    name: str
    image_size: tuple[int, int]
    moments: Mapping[str, Tensor]
    train: Split | None
    val: Split | None = None
    test: Split | None = None
    notes: tuple[str, ...] = ()
    flip: bool = True
    unreadable: tuple[str, ...] = ()

    def split_into(
        self, train: Split, moments: Tensor, val: Split | None, test: Split, notes: tuple[str, ...]
    ) -> ImageData:
        """Return the data set with these parts. moments: of the training images."""
        mean, std = mean_and_std(moments)
        return ImageData(
            name=self.name,
            channels=len(mean),
            image_size=self.image_size,
            mean=mean,
            std=std,
            train=train,
            val=val,
            test=test,
            notes=(*self.notes, *notes),
            flip=self.flip,
            unreadable=self.unreadable,
        )


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set ready for training: three parts, and what is known of them.

    Args:
        name: of the data set or its folder.
        channels: 1 (grey) or 3.
        image_size: (height, width) of an image as the network gets it.
        mean: per channel, of pixel values in 0..1, over the training split only.
        std: likewise.
        train: the images to train on.
        val: for every choice made during training; None where the user wants none.
        test: to be looked at once, at the end.
        notes: what was decided for the user and must be said.
        flip: whether a mirrored image is still one of its class; not so for digits.
        unreadable: for each image that was left out because it cannot be read, which it is and why.
        interpolation: by which images from files are resized; those kept in memory are resized bilinearly.
    """

    name: str
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    val: Split | None
    test: Split
    notes: tuple[str, ...] = ()
    flip: bool = True
    unreadable: tuple[str, ...] = ()
    interpolation: Interpolation = "bilinear"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the training images, by class number."""
        return self.train.class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image as the network gets it."""
        return (self.channels, *self.image_size)

    @property
    def resize(self) -> int | tuple[int, int]:
        """The size to which an image is resized at evaluation: exactly (height, width) where images are kept in
        memory; else the length of its shorter side, before the middle is cropped."""
        if self.train.images is not None:
            return self.image_size
        return round(min(self.image_size) * 256 / 224)

    def prepared_for(
        self, mean: Sequence[float], std: Sequence[float], interpolation: str, weights: str = "the published weights"
    ) -> ImageData:
        """Return the same data, prepared as the images were that published weights learnt from, with a note.

        Where the weights are for images of another number of channels (RGB, and these are grey), the mean over the
        weights' channels is taken for each. Images kept in memory are resized already, and stay as they are; so does
        the interpolation where the weights' is neither of the two that there are.

        Args:
            mean, std: of the weights' images, per channel, of pixel values in 0..1.
            interpolation: theirs, by timm's name.
            weights: what the note calls them.
        """
        note = "" if len(mean) == self.channels else f", the means over the weights' {len(mean)} channels"
        mean, std = self._by_channel(mean), self._by_channel(std)
        kept = self.interpolation
        if self.train.images is None and interpolation in get_args(Interpolation):
            kept = cast(Interpolation, interpolation)
        note = (
            f"images are prepared as those of {weights}: mean {_numbers(mean)}, deviation "
            f"{_numbers(std)}{note}" + ("" if self.train.images is not None else f", resized by {kept} interpolation")
        )
        return replace(self, mean=mean, std=std, interpolation=kept, notes=(*self.notes, note))

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> ImageData:
        """Return the same data with another mean and deviation, per channel, of pixel values in 0..1.

        Where they are for another number of channels, the mean over theirs is taken for each, with a note.
        """
        notes = self.notes
        if len(mean) != self.channels:
            notes += (
                f"mean and std are for {len(mean)} channels: their means are taken for each of {self.channels}",
            )
        return replace(self, mean=self._by_channel(mean), std=self._by_channel(std), notes=notes)

    def _by_channel(self, values: Sequence[float]) -> tuple[float, ...]:
        """Return the values where there is one for each channel, else their mean for each."""
        return tuple(values) if len(values) == self.channels else (sum(values) / len(values),) * self.channels


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def mean_and_std(moments: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation per channel over all pixels, every image weighing the same.

    moments: [N, 2, C], as in Source.

    A channel that has the same value everywhere (a colour the camera has not) gets std 1: it stays, as zeros.

    Raises:
        UserError: every channel has the same value everywhere.
    """
    mean, mean_square = moments.mean(dim=0)
    variance = mean_square - mean.square()
    constant = variance < 1e-9  # a single pixel off by one among 15,000 is more
    if constant.all():
        raise UserError("every pixel of the training images has the same value: there is nothing to learn from")
    return tuple(mean.tolist()), tuple(variance.masked_fill(constant, 1).sqrt().tolist())


def moments_of(images: Tensor) -> Tensor:
    """Return moments [N, 2, C] of images [N, H, W, C] in uint8, a few at a time to save memory."""
    chunks = []
    for chunk in images.split(1024):
        values = chunk.double().flatten(1, 2) / 255
        chunks.append(torch.stack([values.mean(dim=1), values.square().mean(dim=1)], dim=1))
    return torch.cat(chunks)
