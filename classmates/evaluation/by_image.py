"""What a student says of each image that it is scored on, what the images are called, and how they look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from classmates._names import in_unicode
from classmates.data.parts import Files, Split
from classmates.data.readers.paths import Paths
from classmates.evaluation.reading import read
from classmates.runs.student import StudentCard
from classmates.tasks.protocol import Protocol


def file_names(files: Files | None, rows: Iterable[int]) -> list[str] | None:
    """Return the names of images in these rows, those of files from the data's folder on; None without files.

    files: that the images of a split were read from, which says also which row of a table an image is in.
    """
    if files is None:
        return None
    names = []
    for row in rows:
        file = files[row]
        if isinstance(file, Image.Image):  # it was decoded by whoever published it
            return None
        name = file.relative_to(files.root) if isinstance(files, Paths) and isinstance(file, Path) else file
        names.append(in_unicode(str(name)))
    return names


class Pictured(NamedTuple):
    """The images of a split that a report shows.

    rows: [m], of the split. images: [m, H, W, C] uint8, as the network gets them but for the normalisation. files: m,
    what they are called; None where they come from no files.
    """

    rows: np.ndarray
    images: np.ndarray
    files: list[str] | None


def pictured(predictions: Tensor, split: Split, protocol: Protocol, card: StudentCard) -> Pictured:
    """Return the images that the protocol chooses for a report.

    predictions: [n, K], the student's, or whatever else the protocol judges. split: the n images, as they were
    prepared for the student. card: the student's.
    """
    rows = protocol.pictured(predictions, split.labels)
    pictures = [picture(split, row, card) for row in rows.tolist()]
    channels, *size = card.input_shape
    images = np.stack(pictures) if pictures else np.zeros((0, *size, channels), np.uint8)
    return Pictured(rows.numpy(), images, file_names(split.paths, rows.tolist()))


def picture(split: Split, row: int, card: StudentCard) -> np.ndarray:
    """Return one image of a split, [H, W, C] uint8."""
    if split.images is not None:
        return split.images[row].numpy()
    assert split.paths is not None  # one or the other
    return read(split.paths[row], card).numpy()


def answer_table(logits: Tensor, labels: Tensor, class_names: Sequence[str], files: Files | None) -> pd.DataFrame:
    """Return a row for each image: what it is called, its class, the predicted one and its probability.

    Args:
        logits: [n, K], of the images in the order of their split.
        labels: [n].
        class_names: [K].
        files: n, where the images come from some.

    Returns:
        ``file``, or ``index`` in the split from 0 where there are no files; ``class``; ``predicted``; ``probability``
        (softmax of the logits) of the predicted class; ``right``, "true" or "false".
    """
    predicted = logits.argmax(dim=1)
    probabilities = logits.double().softmax(dim=1).gather(1, predicted[:, None]).squeeze(1)
    names, rows = [*map(in_unicode, class_names)], range(len(labels))
    files_of_rows = file_names(files, rows)
    return pd.DataFrame(
        ({"index": rows} if files_of_rows is None else {"file": files_of_rows})
        | {
            "class": [names[number] for number in labels.tolist()],
            "predicted": [names[number] for number in predicted.tolist()],
            "probability": probabilities.tolist(),
            "right": ["true" if right else "false" for right in (predicted == labels).tolist()],
        }
    )
