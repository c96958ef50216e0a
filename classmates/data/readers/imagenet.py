"""ImageNet and two smaller sets cut from it. Their classes have WordNet's numbers, such as n01440764."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from timm.data import ImageNetInfo

from classmates.data.readers.listing import Listing
from classmates.data.readers.published_files import by_class, list_files, place_of
from classmates.data.readers.walking import Walk
from classmates.errors import UserError

TEST_NOTE = "the published validation images are the test set: the labels of the published test images are secret"


def imagenet(data_dir: Path) -> Listing:
    """ImageNet (ILSVRC 2012), 1.3 million images of 1,000 classes; to be fetched by hand.

    ``train/WNID/*.JPEG``, and ``val/`` likewise, or ``val/*.JPEG`` beside a file that gives their classes (see
    ``_validation_classes``). Kaggle's folders are known too.

    Raises:
        UserError: a file or folder is missing, or validation images have a class that is not in ``train/``.
    """
    place = place_of(
        "imagenet",
        data_dir,
        ("ILSVRC2012", "imagenet", "imagenet/ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"),
        ("train", "val"),
        "ILSVRC2012_img_train.tar into train/WNID/ and ILSVRC2012_img_val.tar into val/ (https://image-net.org)",
    )
    walk = Walk(place)
    wnids = walk.classes("train")
    if folders := walk.classes("val"):
        if folders != wnids:
            raise UserError(f"the class folders of {place}: train/ has {len(wnids)}, val/ others or {len(folders)}")
        test = [walk.images(f"val/{wnid}") for wnid in wnids]
    else:
        files = walk.images("val")
        classes, where = _validation_classes(place, files)
        test = by_class(dict(zip(files, classes, strict=True)), wnids, where)
    train = (walk.images(f"train/{wnid}") for wnid in wnids)
    return list_files("imagenet", place, class_names(wnids), {"train": train, "test": test}, notes=[TEST_NOTE])


def tiny_imagenet(data_dir: Path) -> Listing:
    """Tiny ImageNet, 100,000 images of 64x64 pixels and 200 classes; to be fetched by hand.

    ``train/WNID/images/*.JPEG``, ``val/images/*.JPEG`` and ``val/val_annotations.txt``, whose boxes are not used.

    Raises:
        UserError: a file or folder is missing, or the annotations do not fit.
    """
    place = place_of(
        "tiny-imagenet",
        data_dir,
        ("tiny-imagenet-200", "tiny-imagenet"),
        ("train", "val/images", "val/val_annotations.txt"),
        "tiny-imagenet-200.zip (http://cs231n.stanford.edu/tiny-imagenet-200.zip)",
    )
    walk = Walk(place)
    wnids = walk.classes("train")
    annotations = place / "val" / "val_annotations.txt"
    table = _columns(annotations, ["file", "wnid"], sep="\t", header=None, usecols=[0, 1], names=["file", "wnid"])
    test = by_class(dict(zip("val/images/" + table["file"], table["wnid"], strict=True)), wnids, annotations)
    train = (walk.images(f"train/{wnid}") for wnid in wnids)
    return list_files("tiny-imagenet", place, class_names(wnids), {"train": train, "test": test}, notes=[TEST_NOTE])


def mini_imagenet(data_dir: Path) -> Listing:
    """miniImageNet, 60,000 images of 100 classes, here all in one; to be fetched by hand.

    ``images/*.jpg`` with ``train.csv``, ``val.csv`` and ``test.csv`` (columns filename and label, as split by Ravi
    and Larochelle), or ``train/WNID/*``, ``val/WNID/*`` and ``test/WNID/*``. The three have 64, 16 and 20 classes,
    each its own: for plain classification they are put together.

    Raises:
        UserError: a file or folder is missing, a table has not these columns, or a class lies in two parts.
    """
    parts, folders = ("train", "val", "test"), ("mini-imagenet", "mini_imagenet", "miniImageNet")
    source = "images/ with train.csv, val.csv and test.csv, or the class folders in train/, val/ and test/,"
    if any((data_dir / folder / "train").is_dir() for folder in (*folders, ".")):
        place = place_of("mini-imagenet", data_dir, folders, parts, source)
        walk = Walk(place)
        homes: dict[str, str] = {}
        for part in parts:
            for wnid in walk.classes(part):
                if wnid in homes:
                    raise UserError(
                        f"{place} has {wnid} in {homes[wnid]} and in {part}/, but each part of miniImageNet has "
                        f"classes of its own: if it was divided anew, give the folder itself (--data {place})"
                    )
                homes[wnid] = f"{part}/{wnid}"
        wnids = sorted(homes)
        files = [walk.images(homes[wnid]) for wnid in wnids]
    else:
        tables = [f"{part}.csv" for part in parts]
        place = place_of("mini-imagenet", data_dir, folders, ("images", *tables), source)
        of_parts = [_columns(place / name, ["filename", "label"]) for name in tables]
        table = pd.concat(of_parts)
        if (twice := table["filename"].duplicated()).any():
            raise UserError(f"{place} has the file {table['filename'][twice].iloc[0]} in two rows of its tables")
        several = Counter(wnid for part in of_parts for wnid in part["label"].unique())
        if shared := [wnid for wnid, times in several.items() if times > 1]:
            raise UserError(
                f"{place} has the class {shared[0]} in two of its tables, but each part of miniImageNet has classes "
                "of its own"
            )
        wnids = sorted(table["label"].unique())
        files = by_class(dict(zip("images/" + table["filename"], table["label"], strict=True)), wnids, place)
    return list_files("mini-imagenet", place, class_names(wnids), {"train": files})


def class_names(wnids: Sequence[str]) -> list[str]:
    """Return what WordNet calls classes: ``tench, Tinca tinca``; with the number where two are called the same."""
    info = ImageNetInfo()

    def described(wnid: str) -> str:
        try:
            return info.label_name_to_description(wnid)
        except KeyError:  # not one of ImageNet's 21,841
            return wnid

    names = [described(wnid) for wnid in wnids]
    times = Counter(names)
    return [f"{name} ({wnid})" if times[name] > 1 else name for name, wnid in zip(names, wnids, strict=True)]


def _validation_classes(place: Path, files: Sequence[str]) -> tuple[list[str], Path]:
    """Return the WordNet numbers of the validation images, which are sorted, and the file that says so.

    ``LOC_val_solution.csv`` (Kaggle); ``imagenet_2012_validation_synset_labels.txt`` (a number for each image); or
    the development kit's ``ILSVRC2012_validation_ground_truth.txt``, read with its ``meta.mat``. Each lies beside
    ``train/`` and ``val/`` or in a folder above.

    Raises:
        UserError: none of these is there, or it is for other images.
    """
    solution, synsets = "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt"
    truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    found = [folder / name for name in (solution, synsets, truth) for folder in (place, *place.parents[:3])]
    found = [file for file in found if file.is_file()]
    if not found:
        raise UserError(
            f"the images in {place / 'val'} are not in class folders, and none of {solution}, {synsets} and {truth} "
            f"is in {place} to say of which class they are: add one"
        )
    file = found[0]
    if file.name == solution:
        table = _columns(file, ["ImageId", "PredictionString"]).set_index("ImageId")["PredictionString"]
        if (twice := table.index.duplicated()).any():
            raise UserError(f"{file} has two rows of {table.index[twice][0]}: keep one")
        classes = table.str.split().str[0].reindex([Path(name).stem for name in files]).dropna().tolist()
    else:
        classes = file.read_text(encoding="utf-8").split()
    if len(classes) != len(files):
        raise UserError(f"{file} gives the classes of {len(classes)} images, but {place / 'val'} has {len(files)}")
    return (_wnids(file.with_name("meta.mat"), classes) if found[0].match(truth) else classes), file


def _columns(file: Path, needed: list[str], **how: Any) -> pd.DataFrame:
    """Return columns of a published table as texts; UserError where it has not all of them in every row."""
    try:
        table = pd.read_csv(file, dtype=str, **how)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a table: {error}") from error
    if missing := [name for name in needed if name not in table]:
        raise UserError(f"{file} has no column {missing[0]}, but {', '.join(map(str, table.columns))}")
    if (empty := table[needed].isna().any(axis=1)).any():
        raise UserError(f"{file} has nothing for {' or '.join(needed)} in line {int(empty.argmax()) + 1} of its rows")
    return table[needed]


def _wnids(meta: Path, numbers: Sequence[str]) -> list[str]:
    """Return WordNet numbers for the development kit's own."""
    from scipy.io import loadmat  # comes with scikit-learn

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
    except OSError as error:
        raise UserError(f"{meta} cannot be read: {error}") from error
    wnid_of = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    return [wnid_of[int(number)] for number in numbers]
