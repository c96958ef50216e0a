"""A folder of tar files in the layout of WebDataset: ``KEY.jpg`` and its label ``KEY.cls`` side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classmates._names import name_of_class
from classmates._progress import bar
from classmates.data.parts import Encoded, ImageFile, Split
from classmates.data.readers.cache import cached, fingerprint
from classmates.data.readers.listing import Listing
from classmates.data.readers.opening import UnreadableImage
from classmates.data.readers.part_names import PARTS, WORDS, part_within
from classmates.data.readers.paths import Paths
from classmates.data.readers.tar_index import LABEL, index_shard
from classmates.data.readers.walking import is_hidden
from classmates.errors import UserError, nearest

NAMES = "classnames.txt"
"""The file beside the shards that names the classes, one a line, in the order of their numbers."""

Shards = dict[str, list[Path]]
"""The tar files of each part."""


class Members:
    """The images of one part, each read from its tar file by itself, wherever it lies."""

    def __init__(self, shards: Sequence[Path], names: Paths, which: np.ndarray, places: np.ndarray) -> None:
        """Take the images that lie in shard ``which[n]``, [N], at ``places[n]``, [N, 2]: offset and size.

        names: SHARD/MEMBER, to call them by.
        """
        self.shards = shards
        self.names = names
        self.which = which
        self.places = places

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: int, /) -> ImageFile:
        offset, size = self.places[index].tolist()
        name = str(self.names[index])
        try:
            with open(self.shards[self.which[index]], "rb", buffering=0) as file:
                file.seek(offset)
                return Encoded(name, file.read(size))
        except OSError as error:
            raise UnreadableImage(f"cannot read the image {name}: {error}") from error

    def identity(self) -> Iterator[bytes]:
        """Yield the names, and where each lies; see ``Files``."""
        yield from self.names.identity()
        yield self.which.tobytes()
        yield self.places.tobytes()

    def take(self, indices: Tensor, /) -> Members:
        at = indices.numpy()
        return Members(self.shards, self.names.take(indices), self.which[at], self.places[at])

    def described(self) -> Iterator[str]:
        """Yield each image's name and size, by which a data set is known again."""
        sizes = self.places[:, 1].tolist()
        return (f"{name.relative_to(self.names.root)} {size}" for name, size in zip(self.names, sizes, strict=True))


def find_tars(folder: Path) -> Shards:
    """Return the tar files by part; empty where the folder has none, or other folders as well: then it is these.

    They lie in the folder and are called after their part (``imagenet-train-0000.tar``), or lie in a folder that is
    (``train/0000.tar``). Where no name has a part, all are training images.
    """
    found: Shards = {}
    if not folder.is_dir():
        return found
    below = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)]
    if all(name in WORDS and any((folder / name).glob("*.tar")) for name in below):
        for file in sorted(folder.glob("*.tar")):
            found.setdefault(part_within(file.stem) or "", []).append(file)
        for name in sorted(below):
            found.setdefault(WORDS[name], []).extend(sorted((folder / name).glob("*.tar")))
    if unnamed := found.pop("", None):
        if found:
            raise UserError(
                f"{unnamed[0]} is called after no part, but other tar files are: put train, val or test into its name"
            )
        found = {"train": unnamed}
    return {part: found[part] for part in PARTS if part in found}


def list_webdataset(folder: Path, shards: Shards, *, label: str | None, name: str) -> Listing:
    """List tar files as a data set; where each image lies is looked up once and kept in the cache.

    Args:
        folder: where they were found.
        shards: as ``find_tars`` returns them.
        label: the extension of the label's member, or a field of the sample's ``.json``; ``cls`` if None.
        name: of the data set.

    Raises:
        UserError: there are no training images, images without a label, a label that training has not or that has no
            line in ``classnames.txt``, or what ``index_shard`` raises.
    """
    if "train" not in shards:
        raise UserError(f"{folder} has no training images, only {', '.join(shards)}: call a tar file train-0000.tar")
    files = [file for part in shards.values() for file in part]
    notes: list[str] = []
    if len(files) > 1 and files[0].parent == folder and not part_within(files[0].stem):  # then none is
        told = f"{len(files)} tar files in {folder} are called after no part ({', '.join(PARTS)})"
        notes.append(f"{told}: their images are taken together")
    build = partial(_indexed, folder, shards, label)
    content = " ".join(f"{part} {fingerprint(shards[part])}" for part in shards)
    index = cached("shards", [folder.absolute(), label], content, build, notes)
    if unused := int(index["unused"]):
        example = _unused(index)
        notes.append(f"files in {folder} that are neither image nor label, not used: {unused}, such as {example}")
    images, labels = {}, {}
    for part in shards:
        if not len(index[f"{part} places"]):
            raise UserError(
                f"the {part} files of {folder} hold no image: a sample is NAME.png and NAME.cls, with no dot in NAME"
                f"{f' (not used: {_unused(index)})' if unused else ''}"
            )
        names = Paths.packed(folder, index[f"{part} names"].numpy().tobytes())
        images[part] = Members(shards[part], names, index[f"{part} shard"].numpy(), index[f"{part} places"].numpy())
        labels[part] = _texts(index[f"{part} labels"])[index[f"{part} label"].numpy()]
        if _has_labels(images[part], labels[part], part, label):
            continue
        notes.append(f"the {part} images of {folder} have no labels, not used")
        del images[part], labels[part]
    class_names, numbers = _class_numbers(labels, folder)
    parts = {part: Split(torch.from_numpy(numbers[part]), paths=images[part]) for part in images}
    if "test" not in parts and "val" in parts:
        notes.append(f"no labelled test images in {folder}: its validation images are the test set")
        parts["test"] = parts.pop("val")
    return Listing(name, folder, class_names, parts, tuple(notes), stored_in=files)


def _unused(index: Mapping[str, Tensor]) -> str:
    """Return the first of the files that are neither image nor label."""
    return os.fsdecode(index["example"].numpy().tobytes())


def _indexed(folder: Path, shards: Shards, label: str | None) -> dict[str, Tensor]:
    """Return what lies where: for each part the images' names, shards, places and labels, shard after shard."""
    tensors: dict[str, Tensor] = {}
    unused, example = 0, ""
    for part, files in shards.items():
        names, places, which = [], [np.empty((0, 2), np.int64)], []
        texts: dict[str, int] = {}
        numbers: list[int] = []
        for file in bar(files, f"indexing the {part} shards", "shard"):
            samples, others, first = index_shard(file, label)
            where = file.relative_to(folder)
            unused, example = unused + others, example or (f"{where}/{first}" if others else "")
            names.append(os.fsencode("".join(f"{where}/{sample.name}\0" for sample in samples)))
            places.append(np.array([(sample.offset, sample.size) for sample in samples], np.int64).reshape(-1, 2))
            which.append(len(samples))
            numbers += [texts.setdefault(sample.label or "", len(texts)) for sample in samples]
        tensors |= {
            f"{part} names": _packed(b"".join(names)),
            f"{part} places": torch.from_numpy(np.concatenate(places)),
            f"{part} shard": torch.arange(len(files), dtype=torch.int32).repeat_interleave(torch.tensor(which)),
            f"{part} label": torch.tensor(numbers, dtype=torch.int32),
            f"{part} labels": _packed("".join(f"{text}\0" for text in texts).encode()),
        }
    return tensors | {"unused": torch.tensor(unused), "example": _packed(os.fsencode(example))}


def _packed(text: bytes) -> Tensor:
    return torch.tensor(bytearray(text), dtype=torch.uint8)


def _texts(packed: Tensor) -> np.ndarray:
    """Return the texts that are packed with a zero byte after each, [N]."""
    return np.array(packed.numpy().tobytes().decode().split("\0")[:-1], dtype=str)


def _has_labels(images: Members, labels: np.ndarray, part: str, label: str | None) -> bool:
    """Return whether the images of a part have labels; other parts than the training images may have none.

    labels: as written, [N]; empty or -1 where there is none.

    Raises:
        UserError: some images have none, or those to train on.
    """
    missing = np.flatnonzero(np.isin(labels, ("", "-1")))
    if len(missing) == 0 or (len(missing) == len(labels) and part != "train"):
        return len(missing) == 0
    wanted = f".{LABEL}" if label is None else f".{label} or .json with a field {label}"
    raise UserError(
        f"{len(missing)} of {len(labels)} {part} images have no label (none, empty or -1), such as "
        f"{images.names[int(missing[0])]}: put a file of the same name with {wanted} beside each, or say with "
        "--label where labels are (an extension such as txt, or a field of .json)"
    )


def _class_numbers(labels: Mapping[str, np.ndarray], folder: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the class names, and each part's class numbers, [N], int64.

    Named in ``classnames.txt``, else the labels of the training images, whole numbers in their order; all as
    ``name_of_class`` writes them.

    Raises:
        UserError: a label is none of these.
    """
    written = {part: np.unique(texts, return_inverse=True) for part, texts in labels.items()}
    whole = all(text.isdecimal() for texts, _ in written.values() for text in texts.tolist())
    texts = {
        part: [str(int(text)) if whole else name_of_class(text) for text in each.tolist()]
        for part, (each, _) in written.items()
    }
    named = folder / NAMES
    if named.is_file():
        try:
            names = [name_of_class(line.strip()) for line in named.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, ValueError) as error:
            raise UserError(f"{named} cannot be read as names of classes, in UTF-8: {error}") from error
        known = [str(number) for number in range(len(names))] if whole else names
        where = f"{named}, which has {len(names)} lines (the first is of class 0)"
    else:
        names = known = sorted(set(texts["train"]), key=int if whole else None)
        where = "the training images"
    number_of = {text: number for number, text in enumerate(known)}
    numbers = {}
    for part, each in texts.items():
        if unknown := [text for text in each if text not in number_of]:
            raise UserError(
                f"the {part} images of {folder} have a label '{unknown[0]}', which is no class of {where}: "
                f"{nearest(unknown[0], known)}"
            )
        numbers[part] = np.array([number_of[text] for text in each], dtype=np.int64)[written[part][1]]
    return tuple(names), numbers
