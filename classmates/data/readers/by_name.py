"""The data sets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from classmates.data.readers.cache import cache_folder
from classmates.data.readers.class_parts import together
from classmates.data.readers.cub import cub200
from classmates.data.readers.downloads import cifar10, cifar100, digits, fashion_mnist, omniglot
from classmates.data.readers.few_shot import (
    cifar_fs,
    cub_species,
    fc100,
    mini_imagenet_classes,
    omniglot_characters,
    tiered_imagenet,
)
from classmates.data.readers.imagenet import imagenet, mini_imagenet, tiny_imagenet
from classmates.data.readers.listing import Listing
from classmates.data.readers.parquet import parquet_in
from classmates.errors import UserError, unknown


class Named(NamedTuple):
    """A data set known by name, before its files are looked at.

    find: lists its images, those of every class in each part; None of a set for few-shot learning alone. labels: the
    kinds of labels to choose from where there are several, the usual ones first. flip: whether a mirrored image is
    still one of its class. disjoint: lists its images by parts of different classes, as they were published.
    """

    find: Callable[..., Listing] | None
    labels: tuple[str, ...] = ()
    flip: bool = True
    disjoint: Callable[[Path], Listing] | None = None

    @property
    def readers(self) -> tuple[Callable[..., Listing], ...]:
        """Whatever lists its images."""
        return tuple(reader for reader in (self.find, self.disjoint) if reader is not None)


NAMED = {
    "digits": Named(digits, flip=False),
    "cifar10": Named(cifar10),
    "cifar100": Named(cifar100, labels=("fine", "coarse")),
    "fashion-mnist": Named(fashion_mnist),
    "tiny-imagenet": Named(tiny_imagenet),
    "mini-imagenet": Named(mini_imagenet, disjoint=mini_imagenet_classes),
    "imagenet": Named(imagenet),
    "cub200": Named(cub200, disjoint=cub_species),
    "omniglot": Named(omniglot, flip=False, disjoint=omniglot_characters),
    "cifar-fs": Named(None, disjoint=cifar_fs),
    "fc100": Named(None, disjoint=fc100),
    "tiered-imagenet": Named(None, disjoint=tiered_imagenet),
}


def list_named(
    name: str, data_dir: Path | None, label: str | None, classes: Literal["shared", "disjoint"] = "shared"
) -> Listing:
    """Return the images of a data set known by name; small ones are downloaded where they are not there.

    Parquet files in the Hub's layout, in ``data_dir`` or in a folder of the data set's name in it, are read instead
    of the publisher's own files.

    Args:
        name: one of ``NAMED``.
        data_dir: where its files are, or are downloaded to; ``data`` in the cache folder if None.
        label: which labels, for a data set with several kinds.
        classes: "disjoint" for parts with different classes. Where none were published, all images are in one part.

    Raises:
        UserError: its files are missing and cannot be downloaded, it has no such labels, or it has only parts with
            different classes.
    """
    known = NAMED[name]
    if label is not None and not known.labels:
        raise UserError(f"label is '{label}', but {name} has one kind of labels only: leave it out")
    if label is not None and label not in known.labels:
        raise unknown(f"label of {name}", label, known.labels)
    given = cache_folder() / "data" if data_dir is None else data_dir
    if classes == "disjoint" and known.disjoint is not None:
        return replace(known.disjoint(given), flip=known.flip)
    if known.find is None:
        raise UserError(
            f"{name} is a data set for few-shot learning: its parts have different classes, so a classifier of the "
            "training classes cannot be tested on the others"
        )
    found = parquet_in(given, name, f"{label or known.labels[0]}_label" if known.labels else None)
    if found is None:
        found = known.find(given, label) if known.labels else known.find(given)
    found = replace(found, flip=known.flip)
    return found if classes == "shared" else together(found)
