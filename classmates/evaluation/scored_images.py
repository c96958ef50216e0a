"""The images that a trained student is scored on: its run's own, or others with classes of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from classmates._names import name_of_class
from classmates._progress import say
from classmates.data.fingerprints import split_hash
from classmates.data.image_splits import SPLIT_OFF
from classmates.data.loading import Classes, ImageData, Split, is_folder, load, load_part
from classmates.data.parts import Source
from classmates.data.readers.images import IN_MEMORY
from classmates.data.readers.listing import listed, without_images
from classmates.errors import UserError
from classmates.runs.folder import read_record
from classmates.runs.student import StudentCard, read_card
from classmates.tasks.task import Task

ALIKE = 0.75
"""From this likeness on, whatever the case, the name of a class is taken for another one's that was misspelled."""


def load_as_trained(
    run: Path,
    settings: Mapping[str, Any],
    card: StudentCard,
    data: str | Path | Dataset[Any] | None,
    data_dir: str | Path | None,
    label: str | None,
    split: str,
    image_size: int | None,
    on_bad_image: Literal["error", "skip"] | None,
    task: Task,
) -> ImageData:
    """Load the images to score, as ``test``: for the student's channels and size, prepared and numbered as its own.

    The run's own data are divided as the run's settings say.

    Raises:
        UserError: these are no images that the student can be scored on; or they are the run's own, of which the part
            was split off, and are not what they were.
    """
    channels, *size = card.input_shape
    square = size[0] if size[0] == size[1] else None
    bad = on_bad_image or settings["on_bad_image"]
    own = data is None or is_own(data, run, settings)
    source: Source | ImageData
    named = isinstance(data, str | Path) and not is_folder(data, data_dir)  # such sets may divide their classes
    if data is not None and not own and (task.classes == "shared" or not named):
        source = load_part(
            data,
            split,
            data_dir=data_dir,
            label=label,
            image_size=square if image_size is None else image_size,
            channels=channels,
            on_bad_image=bad,
        )
        part = source.test
    else:
        place = settings["data"] if data is None or has_its_place(data, settings) else data
        if own:
            data_dir, label = data_dir or settings["data_dir"], label or settings["label"]
            if max(size) <= IN_MEMORY:  # of larger photos, today's rule may say something else than in training
                square = settings["image_size"]
        if str(place).startswith("<"):
            raise UserError(
                f"'{run}' was trained on a dataset given in Python, whose images it does not keep: give images to "
                "score as data; what is fitted to the run's own (temperature, thresholds, 8-bit ranges) cannot be had"
            )
        source = load(
            place,
            data_dir=data_dir,
            label=label,
            image_size=square if image_size is None else image_size,
            channels=channels,
            # The test images are the same whatever is split off from the others.
            val_fraction=0 if split == "test" else settings["val_fraction"],
            train_size=None if split == "test" else settings["train_size"],
            seed=settings["seed"],
            on_bad_image=bad,
            classes=task.classes,
        )
        if own:
            source = replace(source, notes=(*source.notes, *taken_for_own(place, data_dir)))
        part = getattr(source, split)
        if own and image_size is None and part is not None:
            source = replace(source, notes=(*source.notes, *told_of_others(run, split, part, source)))
    if part is None:
        raise UserError(
            f"'{source.name}' has no validation images (val_fraction was 0), to which temperatures and thresholds "
            "are fitted: train again with a val_fraction, such as 0.1; for scores alone take split='test'"
        )
    if image_size is None:
        require_size(source.name, source.image_size, size)
    if task.classes == "disjoint":
        require_new_classes(part, card, split, source.name)
        return prepared_as_trained(source, part, card)
    return prepared_as_trained(source, numbered_as(card.class_names, part, source.name), card)


def told_of_others(run: Path, split: str, part: Split, source: ImageData) -> list[str]:
    """Return a note where the images of a part are not those that the run had there.

    Raises:
        UserError: they are not, and were split off: then images that were trained on may be among them.
    """
    record = read_record(run / "result.json")
    if record is None or split not in record.images or record.images[split] == split_hash(part):
        return []
    text = (
        f"the {split} images of '{source.name}' are not those of the run: some were added, removed or changed since"
    )
    if split == "val" or any(note.startswith(SPLIT_OFF) for note in source.notes):
        raise UserError(
            f"{text}, and others are split off now, of which some were trained on: put them back as they were, or "
            "give other images as data"
        )
    return [text]


def require_size(name: str, found: Sequence[int], size: Sequence[int]) -> None:
    """Raise UserError where the images of a data set are not of the student's size, (height, width)."""
    if tuple(found) != tuple(size):
        raise UserError(
            f"the images of '{name}' have {_by(found)} pixels, the student takes {_by(size)}: "
            "give images of that size, or an image_size"
        )


def prepared_as_trained(source: Source | ImageData, images: Split, card: StudentCard) -> ImageData:
    """Return images as the test images of the student, with its mean, deviation and interpolation."""
    notes = list(source.notes)
    if missing := without_images(images):
        notes.append(f"'{source.name}' has no image of {listed(missing)} there: the scores are of the other classes")
    return ImageData(
        name=source.name,
        channels=card.input_shape[0],
        image_size=source.image_size,
        mean=card.mean,
        std=card.std,
        train=images,
        val=None,
        test=images,
        notes=tuple(notes),
        interpolation=card.interpolation,
    )


def numbered_as(names: tuple[str, ...], images: Split, where: str) -> Split:
    """Return images with their classes, known by name, in a student's order.

    Raises:
        UserError: there are images of a class that it does not know.
    """
    if images.class_names == names:
        return images
    present = set(images.labels.unique().tolist())
    number = {name_of_class(name): new for new, name in enumerate(names)}
    numbers = torch.tensor([number.get(name_of_class(name), -1) for name in images.class_names])
    if unknown := [images.class_names[old] for old in sorted(present) if numbers[old] < 0]:
        raise UserError(
            f"'{where}' has images of classes that the student does not know, {_some(unknown)} (it knows "
            f"{_some(names)}): leave them out, or call the folders as in training{_meant(unknown, images, names)}"
        )
    return replace(images, labels=numbers[images.labels], class_names=names)


def _meant(unknown: Sequence[str], images: Split, names: Sequence[str]) -> str:
    """Return which class of a student's is meant by a name like its; one whose own name is there is meant by none."""
    present = set(map(name_of_class, images.class_names))
    others = {name_of_class(name).casefold(): name for name in names if name_of_class(name) not in present}
    close = {name: get_close_matches(name_of_class(name).casefold(), others, 1, ALIKE) for name in unknown}
    pairs = [f"'{others[match[0]]}' by '{name}'" for name, match in close.items() if match]
    return f": did you mean {', '.join(pairs[:5])}?" if pairs else ""


def require_new_classes(images: Split, card: StudentCard, split: str, where: str) -> None:
    """Raise UserError where the student was trained on a class of the split; those of "train" may be its own."""
    of_training = set(map(name_of_class, card.class_names))
    known = [name for name in images.class_names if name in of_training]
    if known and split != "train":
        raise UserError(
            f"the student was trained on {_some(known)} of the {split} images of '{where}': it is judged on "
            "classes that it was never trained on; give data of such classes"
        )


def is_own(data: str | Path | Dataset[Any], run: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether data are those that the run was trained on, which it has divided itself.

    They are known by their name or place, and folders by their images too: the place may be another one by now, or a
    relative path that was seen from elsewhere.
    """
    if not isinstance(data, str | Path):
        return False
    if has_its_place(data, settings):
        return True
    record = read_record(run / "result.json") if is_folder(data) else None
    return record is not None and _trained_on(data, settings, read_card(run)) == record.images.get("train", "")


def has_its_place(data: str | Path | Dataset[Any], settings: Mapping[str, Any]) -> bool:
    """Return whether data have the name of those that the run was trained on, or are the same folder."""
    own = str(settings["data"])
    return str(data) == own or (
        isinstance(data, str | Path)
        and is_folder(own, settings.get("data_dir"))
        and is_folder(data)
        and Path(own).expanduser().resolve() == Path(data).expanduser().resolve()
    )


def _trained_on(data: str | Path, settings: Mapping[str, Any], card: StudentCard) -> str | None:
    """Hash the images of a folder that a run with these settings would train on; None where it could not."""
    division = {name: settings[name] for name in ("image_size", "val_fraction", "train_size", "seed", "on_bad_image")}
    classes: Classes = "disjoint" if card.output == "embedding" else "shared"
    try:
        with say(notes=False):
            return split_hash(load(data, channels=card.input_shape[0], classes=classes, **division).train)
    except UserError:
        return None


def taken_for_own(data: str | Path | Dataset[Any], data_dir: str | Path | None) -> list[str]:
    """Return the note on which folder was read, where its name says another one in another working folder."""
    if isinstance(data, str | Path) and is_folder(data, data_dir):
        folder = Path(data).expanduser()
        if folder.is_dir() and not folder.is_absolute():
            return [f"{folder.resolve()} is taken for the data of training, which the run calls '{data}'"]
    return []


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
