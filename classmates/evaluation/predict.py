"""Classes of unlabelled image files, predicted by a trained student."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from classmates._files import output_file, require_writable
from classmates._names import in_unicode
from classmates._progress import bar
from classmates.data.augmentation import normalise
from classmates.data.batches.streaming import decode_fast
from classmates.data.parts import ImageFile
from classmates.data.readers.images import decode, stack
from classmates.data.readers.listing import skipped
from classmates.data.readers.opening import UnreadableImage
from classmates.data.readers.walking import Walk
from classmates.data.resizing import crop_middle, fit
from classmates.errors import UserError, check_choice
from classmates.runs.student import StudentCard, load_student

WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    ".csv": lambda frame: frame.to_csv(index=False),
    ".json": lambda frame: json.dumps(frame.to_dict("records"), indent=2, ensure_ascii=False),
}


@torch.inference_mode()
def predict(
    run: str | Path,
    images: list[str],
    *,
    top: int = 1,
    on_bad_image: Literal["error", "skip"] = "skip",
    out: Path | None = None,
    batch_size: int = 64,
    accelerator: str = "auto",
    network: nn.Module | None = None,
) -> pd.DataFrame:
    """Classify image files with the student of a finished run.

    Args:
        run: the run's folder.
        images: image files, and folders whose images are all taken, those in folders below them too.
        top: how many classes to give for each image, the most probable first.
        on_bad_image: what to do about images that cannot be read: "skip" leaves them out and says which, "error"
            stops at the first.
        out: a .csv or .json file to write the result to.
        batch_size: how many images at a time.
        accelerator: auto, cpu, gpu, mps, ... as Lightning names them.
        network: where to load the weights, for a student that was given to training as an object (in Python).

    Returns:
        One row for each image, in the order given, folders sorted: ``file``, ``class``, ``probability`` (softmax of
        the logits). With ``top`` above 1, that many rows for each image, numbered from 1 by a column ``rank``. A byte
        of a file's name that is not UTF-8 is a backslash escape.

    Raises:
        UserError: no student in the folder, no image found or none that can be read, an image that cannot be read
            (named) where ``on_bad_image`` is "error", or an argument that cannot work.
    """
    check_choice("on_bad_image", on_bad_image, ("error", "skip"))
    student, card = load_student(run, network)
    classes = card.class_names
    if not 1 <= top <= len(classes):
        raise UserError(f"top is {top}, but the student knows {len(classes)} classes: give 1 to {len(classes)}")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    if out is not None and Path(out).suffix not in WRITERS:
        raise UserError(f"out is '{out}'; give a file that ends in {' or '.join(WRITERS)}")
    if out is not None:
        require_writable(Path(out))
    device, found, notes = device_for(accelerator), *_find(images)

    student.to(device)
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    logits, paths, bad = [], [], []
    for files, pixels, errors in _batches(found, partial(read, card=card), batch_size):
        if errors and on_bad_image == "error":
            raise errors[0]
        bad += errors
        if files:
            paths += files
            inputs = normalise(pixels.to(device), mean, std, torch.contiguous_format)
            logits.append(student(inputs).cpu())
    if not paths:
        raise UserError(f"none of {len(bad)} images can be read, among them: {bad[0]}")
    for note in (*notes, *([skipped(list(map(str, bad)))] if bad else [])):
        print(f"note: {in_unicode(note)}", file=sys.stderr)  # what is printed may be the table, for other programs
    frame = _table(paths, torch.cat(logits), classes, top)
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(WRITERS[file.suffix](frame), encoding="utf-8")
    return frame


def _table(paths: Sequence[Path], logits: Tensor, classes: Sequence[str], top: int) -> pd.DataFrame:
    """Return the most probable classes of each image as ``predict`` does. logits: [N, K]."""
    probabilities, numbers = logits.double().softmax(dim=1).topk(top)
    columns = {
        "file": [in_unicode(str(path)) for path in paths for _ in range(top)],
        "rank": [*range(1, top + 1)] * len(paths),
        "class": [classes[number] for number in numbers.flatten().tolist()],
        "probability": probabilities.flatten().tolist(),
    }
    if top == 1:
        del columns["rank"]
    return pd.DataFrame(columns)


def read(path: ImageFile, card: StudentCard) -> Tensor:
    """Read an image file as the student was tested on them, but for the normalisation: [H, W, C], uint8."""
    channels, height, width = card.input_shape
    if not isinstance(card.resize, int):
        return stack([fit(decode(path, channels), card.resize)])[0]
    pixels = crop_middle(decode_fast(path, channels), card.resize, (height, width), card.interpolation)
    return pixels.permute(1, 2, 0)


def device_for(accelerator: str) -> torch.device:
    """Return the device of an accelerator as Lightning names it; UserError where it cannot be used."""
    try:
        return Fabric(accelerator=accelerator, devices=1).device
    except (ValueError, RuntimeError) as error:
        raise UserError(f"accelerator '{accelerator}' cannot be used: {error}") from error


def _batches(
    files: Sequence[Path], read: Callable[[Path], Tensor], size: int
) -> Iterator[tuple[list[Path], Tensor, list[UnreadableImage]]]:
    """Yield so many files at a time: those that can be read, their images [B, H, W, C], and the errors of the others.

    The images are empty where none can be read.
    """

    def attempt(file: Path) -> Tensor | UnreadableImage:
        try:
            return read(file)
        except UnreadableImage as error:
            return error

    with ThreadPool() as pool:  # decoders run outside Python's lock
        for start in bar(range(0, len(files), size), desc="predicting", unit="batch"):
            batch = files[start : start + size]
            found = list(zip(batch, pool.map(attempt, batch), strict=True))
            images = [image for _, image in found if isinstance(image, Tensor)]
            good = [file for file, image in found if isinstance(image, Tensor)]
            bad = [error for _, error in found if isinstance(error, UnreadableImage)]
            yield good, torch.stack(images) if images else torch.empty(0), bad


def _find(images: list[str]) -> tuple[list[Path], list[str]]:
    """Return the files that are given and those below the folders that are, and notes on what is left out there."""
    found: list[Path] = []
    notes: list[str] = []
    try:
        for given in map(Path, images):
            if given.is_dir():
                walk = Walk(given)
                found += [given / name for name in walk.images("")]
                notes += walk.notes()
            elif given.exists() or given.is_symlink():
                found.append(given)
            else:
                raise UserError(f"there is no image file or folder '{given}'")
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(f"no image found in {', '.join(images) or 'nothing'}: give files or folders of images")
    return found, notes
