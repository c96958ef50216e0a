"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011)."""

from __future__ import annotations

from pathlib import Path

from classmates.data.readers.listing import Listing
from classmates.data.readers.published_files import by_class, list_files, place_of
from classmates.errors import UserError


def cub200(data_dir: Path) -> Listing:
    """CUB-200-2011, 11,788 images of 200 species of birds, whole (boxes are not used); to be fetched by hand.

    The published folder, with the training and test images of its ``train_test_split.txt``.

    Raises:
        UserError: a file is missing, or the tables do not fit each other.
    """
    tables = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    place = place_of(
        "cub200",
        data_dir,
        ("CUB_200_2011", "cub200"),
        ("images", *tables),
        "CUB_200_2011.tgz (https://data.caltech.edu/records/65de6-vp158)",
    )
    files, numbers, training, classes = (_table(place / table) for table in tables)
    if not files.keys() == numbers.keys() == training.keys():
        raise UserError(f"{', '.join(tables[:3])} in {place} are not about the same images: unpack them again")
    if unknown := set(numbers.values()) - classes.keys():
        raise UserError(f"{place / tables[1]} has a class {min(unknown)}, which is not in classes.txt")
    parts = {}
    for part in ("train", "test"):
        images = [image for image in files if (training[image] == "1") == (part == "train")]
        class_of = {f"images/{files[image]}": classes[numbers[image]] for image in images}
        parts[part] = by_class(class_of, list(classes.values()), place / tables[1])
    return list_files("cub200", place, list(classes.values()), parts)


def _table(path: Path) -> dict[str, str]:
    """Return a file of lines ``NUMBER VALUE``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line.strip())
