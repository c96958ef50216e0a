"""Classes that a student was not trained on, known by a few photos of each: no training, the nearest prototype."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from classmates._names import name_of_class
from classmates.data.readers.folder import find_parts, no_training_images
from classmates.data.readers.walking import Walk, told_of_unreadable
from classmates.errors import UserError
from classmates.losses.leave_one_out import (
    dissimilarity,
    distances,
    fitted_scale,
    leave_one_out,
    reach,
)
from classmates.losses.prototypes import Distance, prototypes
from classmates.runs.folder import stored_settings
from classmates.runs.prototypes import Prototypes, require_suffix, student_hash
from classmates.runs.student import read_card
from classmates.runs.task_spec import stored_task

NONE = "none of these"
"""What an image is called that is too far from every prototype."""
COPIES = 1e-9
"""The dissimilarity of photos, as a share of that of prototypes, below which they differ by rounding alone."""


class Support(NamedTuple):
    """The photos of new classes.

    class_names: [K]. files: [N]. labels: [N], the class number of each. notes: on what was found and not used.
    """

    class_names: tuple[str, ...]
    files: list[Path]
    labels: Tensor
    notes: Sequence[str] = ()

    def among(self, files: Iterable[Path]) -> Support:
        """Return the photos that are among ``files``, in their order here; UserError where a class has none."""
        wanted = set(files)
        rows = [row for row, file in enumerate(self.files) if file in wanted]
        labels = self.labels[rows]
        for name, count in zip(self.class_names, labels.bincount(minlength=len(self.class_names)), strict=True):
            if not count:
                raise UserError(f"no photo of '{name}' of the support can be read: add others, or remove the folder")
        return Support(self.class_names, [self.files[row] for row in rows], labels)


def find_support(folder: Path) -> Support:
    """Find ``folder/CLASS/*``, or ``folder/train/CLASS/*``, a few photos of each class; nothing is read.

    Raises:
        UserError: the folder is missing or cannot be read, has parts but no training images, fewer than two classes,
            or one without photos (named).
    """
    if not folder.is_dir():
        raise UserError(f"support is '{folder}', which is no folder: give one with a folder of photos for each class")
    with told_of_unreadable():
        layout = find_parts(folder)
        if "train" not in layout.parts:
            raise no_training_images(folder, layout)
        place, parts, notes = layout
        walk = Walk(place)
        photos = {name: walk.images(os.path.join(parts["train"], name)) for name in walk.classes(parts["train"])}
    if parts["train"]:
        notes.append(f"the support is {parts['train']}/ in {place}; of other parts nothing is used")
    if len(photos) < 2:
        found = f"one class only, '{next(iter(photos))}'" if photos else "no class folders"
        raise UserError(f"support '{folder}' has {found}: give two classes or more, a folder of photos for each")
    if empty := [name for name, files in photos.items() if not files]:
        raise UserError(f"support '{folder}' has no photos of '{empty[0]}': add some, or remove the folder")
    names = tuple(map(name_of_class, photos))
    if alike := [name for name in names if names.count(name) > 1]:
        raise UserError(f"support '{folder}' has two folders that are both written '{alike[0]}': make one of them")
    counts = torch.tensor([len(files) for files in photos.values()])
    files = [place / file for found in photos.values() for file in found]
    return Support(names, files, torch.arange(len(counts)).repeat_interleave(counts), (*notes, *walk.notes()))


def make_prototypes(
    run: str | Path, support: Support, embeddings: Tensor, *, trust_code: bool
) -> tuple[Prototypes, list[str]]:
    """Make the prototypes of new classes.

    The distance is that of the run's task: squared Euclidean by default in few-shot learning. A task that has none,
    such as classification, gives the length of an embedding no meaning: then it is the cosine, as in SimpleShot (Wang
    et al., 2019).

    Where classes have two photos or more, each photo is judged by the others (``leave_one_out``): of that come the
    scale of the probabilities, the reach, and notes on photos that are nearer to another class than to their own.

    Args:
        run: the folder of the student that made the embeddings.
        support: the photos.
        embeddings: theirs, [N, D].
        trust_code: run the Python file of a task of the run that is none of this package's.

    Returns:
        The prototypes, and notes.

    Raises:
        UserError: the student finds the photos of all classes the same, or the run's task is code that is not
            trusted.
    """
    judged = stored_task(Path(run), trust_code=trust_code).protocol.record.settings
    distance = judged.get("distance", "cosine")
    groups = embeddings.split(support.labels.bincount().tolist())
    centres = torch.cat([prototypes(group, distance)[None] for group in groups])
    between = _typical_dissimilarity(centres, distance)
    left_out, labels = leave_one_out(embeddings, support.labels, distance)
    if len(labels):
        nearest = left_out.min(dim=1).values
        differ = reach(dissimilarity(nearest, distance)) > COPIES * between
        scale, within = fitted_scale(left_out, labels, distance), reach(nearest) if differ else None
        notes = _notes(support, left_out, labels)
        if not differ:
            notes.append("the photos of a class are copies of one: how far an image may be from them cannot be told")
    else:
        scale, within = judged.get("scale", 1 / between), None
        notes = ["one photo of each class: how far an image of these classes may be from them cannot be told"]
    if not stored_settings(Path(run)) and read_card(run).output == "embedding":
        notes.append(
            "images are compared by the cosine: how they were in training is in the run's config.yaml, which cannot "
            f"be read in '{run}'"
        )
    counts = tuple(support.labels.bincount().tolist())
    return Prototypes(centres, support.class_names, counts, distance, scale, within, student_hash(run)), notes


def _typical_dissimilarity(centres: Tensor, distance: Distance) -> float:
    """Return the mean dissimilarity of two prototypes; UserError where they are all the same but for rounding."""
    found = dissimilarity(distances(centres, centres, distance), distance)
    mean = float(found.sum()) / (len(centres) * (len(centres) - 1))
    length = 1.0 if distance == "cosine" else float(centres.double().square().sum(dim=1).mean())
    if not mean > 1e-10 * length:
        raise UserError("the student finds the photos of all classes of the support the same: give other photos")
    return mean


def _notes(support: Support, left_out: Tensor, labels: Tensor) -> list[str]:
    """Return how many photos are nearest to the others of their class, and which are not. left_out: [n, K]."""
    nearest = left_out.argmin(dim=1)
    several = (support.labels.bincount()[support.labels] > 1).nonzero()[:, 0]
    wrong = [
        f"{support.files[several[row]]} is nearer to '{support.class_names[nearest[row]]}'"
        for row in (nearest != labels).nonzero()[:, 0].tolist()
    ]
    more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    told = f": {'; '.join(wrong[:5])}{more}" if wrong else ""
    right = len(labels) - len(wrong)
    return [f"{right} of {len(labels)} support photos are nearest to the others of their own class{told}"]


@dataclass(frozen=True)
class NewClasses:
    """The answers that prototypes give.

    Args:
        prototypes: of the classes.
        none_above: the novelty above which an image is of none of the classes; None to give one always.
    """

    prototypes: Prototypes
    none_above: float | None = None

    def __post_init__(self) -> None:
        if self.none_above is not None and not self.none_above > 0:
            raise UserError(f"none_above is {self.none_above}; give a novelty above 0, such as 1")
        if self.none_above is not None and self.prototypes.reach is None:
            raise UserError(
                f"none_above is {self.none_above}, but with one photo of each class, or copies of one, it cannot be "
                "told how far is too far: give two photos or more of each, or leave it out"
            )

    def columns(self, embeddings: Tensor, top: int) -> dict[str, list[Any]]:
        """Return the columns of ``predict``'s table, [N · top], the nearest class of each image first.

        Where that is too far, the first of the image's rows says so; the others name the classes that come next.

        embeddings: [N, D].
        """
        found = self.prototypes.distances(embeddings)
        nearest, numbers = found.topk(top, largest=False)
        values = {
            "class": [self.prototypes.class_names[number] for number in numbers.flatten().tolist()],
            "probability": self.prototypes.probabilities(found).gather(1, numbers).flatten().tolist(),
            "distance": nearest.flatten().tolist(),
        }
        if self.prototypes.reach is not None:
            values["novelty"] = (nearest / self.prototypes.reach).flatten().tolist()
        if self.none_above is not None:
            for first in range(0, len(values["class"]), top):
                if values["novelty"][first] > self.none_above:
                    values["class"][first] = NONE
        return values


def check_options(
    support: Path | None, prototypes: Path | None, save_prototypes: Path | None, none_above: float | None
) -> None:
    """Raise UserError where options of new classes do not fit each other."""
    if support is not None and prototypes is not None:
        raise UserError(f"support is '{support}' and prototypes is '{prototypes}': give one of them")
    if save_prototypes is not None:
        require_suffix(Path(save_prototypes))
    if support is None and save_prototypes is not None:
        raise UserError(f"save_prototypes is '{save_prototypes}', but none are made: give --support FOLDER too")
    if support is None and prototypes is None and none_above is not None:
        raise UserError(f"none_above is {none_above}, which is for new classes: give --support or --prototypes too")
