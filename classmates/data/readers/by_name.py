"""The data sets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from classmates.data.readers.cache import cache_folder
from classmates.data.readers.cub import cub200
from classmates.data.readers.downloads import cifar10, cifar100, digits, fashion_mnist, omniglot
from classmates.data.readers.imagenet import imagenet, mini_imagenet, tiny_imagenet
from classmates.data.readers.listing import Listing
from classmates.data.readers.parquet import find_shards, list_parquet, shards_in
from classmates.errors import UserError, unknown


class Named(NamedTuple):
    """A data set known by name, before its files are looked at.

    find: lists its images. labels: the kinds of labels to choose from where there are several, the usual ones first.
    flip: whether a mirrored image is still one of its class.
    """

    find: Callable[..., Listing]
    labels: tuple[str, ...] = ()
    flip: bool = True


NAMED = {
    "digits": Named(digits, flip=False),
    "cifar10": Named(cifar10),
    "cifar100": Named(cifar100, labels=("fine", "coarse")),
    "fashion-mnist": Named(fashion_mnist),
    "tiny-imagenet": Named(tiny_imagenet),
    "mini-imagenet": Named(mini_imagenet),
    "imagenet": Named(imagenet),
    "cub200": Named(cub200),
    "omniglot": Named(omniglot, flip=False),
}


def list_named(name: str, data_dir: Path | None, label: str | None) -> Listing:
    """Return the images of a data set known by name; small ones are downloaded where they are not there.

    Parquet files in the Hub's layout, in ``data_dir`` or in a folder of the data set's name in it, are read instead
    of the publisher's own files.

    Args:
        name: one of ``NAMED``.
        data_dir: where its files are, or are downloaded to; ``data`` in the cache folder if None.
        label: which labels, for a data set with several kinds.

    Raises:
        UserError: its files are missing and cannot be downloaded, or it has no such labels.
    """
    known = NAMED[name]
    if label is not None and not known.labels:
        raise UserError(f"label is '{label}', but {name} has one kind of labels only: leave it out")
    if label is not None and label not in known.labels:
        raise unknown(f"label of {name}", label, known.labels)
    given = cache_folder() / "data" if data_dir is None else data_dir
    if shards := find_shards(given / name) or shards_in(given):
        column = f"{label or known.labels[0]}_label" if known.labels else None
        found = list_parquet(given, shards, label=column, name=name)
    else:
        found = known.find(given, label) if known.labels else known.find(given)
    return replace(found, flip=known.flip)
