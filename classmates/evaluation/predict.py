"""Classes of unlabelled image files, predicted by a trained student."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from classmates._csv import as_csv
from classmates._files import output_file, require_writable
from classmates._names import in_unicode
from classmates._progress import bar, note
from classmates.data.augmentation import normalise
from classmates.data.batches.streaming import decode_fast
from classmates.data.parts import ImageFile
from classmates.data.readers.images import decode, stack
from classmates.data.readers.listing import skipped
from classmates.data.readers.opening import UnreadableImage
from classmates.data.readers.walking import Walk
from classmates.data.resizing import crop_middle, fit
from classmates.errors import UserError, check_choice
from classmates.evaluation.new_classes import NewClasses, check_options, find_support, make_prototypes
from classmates.runs.hub import from_anywhere
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard, load_embedder, load_student

WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    ".csv": as_csv,
    ".json": lambda frame: json.dumps(frame.to_dict("records"), indent=2, ensure_ascii=False),
}


@from_anywhere
@torch.inference_mode()
def predict(
    run: str | Path,
    images: list[str],
    *,
    top: int = 1,
    on_bad_image: Literal["error", "skip"] = "skip",
    support: Path | None = None,
    prototypes: Path | None = None,
    save_prototypes: Path | None = None,
    none_above: float | None = None,
    out: Path | None = None,
    batch_size: int = 64,
    accelerator: str = "auto",
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> pd.DataFrame:
    """Classify image files with the student of a finished run, by the classes that it was trained on or by new ones.

    New classes need no training, only a few photos of each (``support``): an image is of the class to whose
    prototype, the mean of its photos' embeddings, its own embedding is nearest.

    Args:
        run: the run's folder, or hf:OWNER/NAME of the Hub, with @REVISION as it was then.
        images: image files, and folders whose images are all taken, those in folders below them too.
        top: how many classes to give for each image, the most probable first.
        on_bad_image: what to do about images that cannot be read: "skip" leaves them out and says which, "error"
            names one and gives no answer. Photos of the support must be readable.
        support: a folder with a folder of photos for each new class.
        prototypes: a file that save_prototypes wrote, instead of the photos.
        save_prototypes: a .safetensors file to keep the prototypes of the support in.
        none_above: the novelty above which an image is of none of the new classes, such as 1: farther from all of
            them than 95 % of their photos.
        out: a .csv or .json file to write the result to.
        batch_size: how many images at a time.
        accelerator: auto, cpu, gpu, mps, ... as Lightning names them.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python file of a student whose model is one (FILE.py:CLASS).

    Returns:
        One row for each image, in the order given, folders sorted: ``file``, ``class``, ``probability`` (softmax of
        the logits). With ``top`` above 1, that many rows for each image, numbered from 1 by a column ``rank``. With
        new classes also ``distance`` from the class's prototype and, if a class has two photos or more, ``novelty``:
        that distance as a multiple of the one within which 95 % of the photos lie from the nearest prototype, those
        photos left out.

    Raises:
        UserError: no student in the folder, no image found or none that can be read, an image that cannot be read
            (named) where ``on_bad_image`` is "error", an argument that cannot work, a support with one class or with
            an empty one, or prototypes of another student.
    """
    check_choice("on_bad_image", on_bad_image, ("error", "skip"))
    check_options(support, prototypes, save_prototypes, none_above)
    by_prototypes = support is not None or prototypes is not None
    student, card = (load_embedder if by_prototypes else load_student)(run, network, trust_code=trust_code)
    known = None if prototypes is None else load_prototypes(prototypes, run)
    photos = None if support is None else find_support(Path(support))
    classes = (known or photos or card).class_names
    if card.output == "embedding" and not by_prototypes:
        raise UserError(
            f"the student in '{run}' gives embeddings, not classes: give --support FOLDER with photos of some"
        )
    if not 1 <= top <= len(classes):
        raise UserError(f"top is {top}, but the student knows {len(classes)} classes: give 1 to {len(classes)}")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    if out is not None and Path(out).suffix not in WRITERS:
        raise UserError(f"out is '{out}'; give a file that ends in {' or '.join(WRITERS)}")
    for file in (out, save_prototypes):
        if file is not None:
            require_writable(Path(file))
    device, (paths, notes) = device_for(accelerator), _find(images)

    student.to(device)
    if photos is not None:
        shown = _outputs(student, card, photos.files, batch_size, device)
        known, more = make_prototypes(run, photos, _readable(shown, "error").values)
        notes += more
    found = _readable(_outputs(student, card, paths, batch_size, device), on_bad_image)
    for text in [*notes, *([skipped([*map(str, found.errors)])] if found.errors else [])]:
        note(text)
    answers = TrainedClasses(card.class_names) if known is None else NewClasses(known, none_above)
    columns = {
        "file": [in_unicode(str(path)) for path in found.files for _ in range(top)],
        "rank": [*range(1, top + 1)] * len(found.files),
        **answers.columns(found.values, top),
    }
    if top == 1:
        del columns["rank"]
    frame = pd.DataFrame(columns)
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(WRITERS[file.suffix](frame), encoding="utf-8")
    if known is not None and save_prototypes is not None:
        known.save(Path(save_prototypes))
    return frame


class Outputs(NamedTuple):
    """The network's outputs of image files, [n, ...], on the CPU, and the errors of the files that cannot be read.

    files: those that can, [n].
    """

    files: list[Path]
    values: Tensor
    errors: list[UnreadableImage]


def _outputs(
    network: nn.Module, card: StudentCard, files: list[Path], batch_size: int, device: torch.device
) -> Outputs:
    """Return what the network gives of image files; UserError where none can be read."""
    if card.input_shape[0] not in (1, 3):
        raise UserError(f"the student takes images of {card.input_shape[0]} channels, image files give 1 or 3")
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    good: list[Path] = []
    outputs, errors = [], []
    with ThreadPool() as pool:  # decoders run outside Python's lock
        for start in bar(range(0, len(files), batch_size), "predicting", "batch"):
            batch = files[start : start + batch_size]
            found = dict(zip(batch, pool.map(partial(_attempt, card=card), batch), strict=True))
            images = {file: image for file, image in found.items() if isinstance(image, Tensor)}
            errors += [error for error in found.values() if isinstance(error, UnreadableImage)]
            if images:
                pixels = torch.stack([*images.values()]).to(device)
                outputs.append(network(normalise(pixels, mean, std, torch.contiguous_format)).cpu())
                good += images
    if not good:
        raise UserError(f"none of {len(files)} images can be read, among them: {errors[0]}")
    values = torch.cat(outputs)
    require_finite(values)
    return Outputs(good, values, errors)


def require_finite(outputs: Tensor) -> None:
    """Raise UserError for a network that gives anything but finite numbers of some images. outputs: [N, ...]."""
    bad = int((~outputs.flatten(1).isfinite()).any(dim=1).sum())
    if bad:
        raise UserError(
            f"the student gives numbers that are not finite of {bad} of {len(outputs)} images: its training has "
            "diverged; train again with a lower --lr"
        )


def _readable(outputs: Outputs, on_bad_image: Literal["error", "skip"]) -> Outputs:
    """Return the outputs; raise the first error where there is one and the user wants to stop then."""
    if outputs.errors and on_bad_image == "error":
        raise outputs.errors[0]
    return outputs


def _attempt(file: Path, card: StudentCard) -> Tensor | UnreadableImage:
    try:
        return read(file, card)
    except UnreadableImage as error:
        return error


@dataclass(frozen=True)
class TrainedClasses:
    """The answers that logits give. names: [K], of the classes."""

    names: tuple[str, ...]

    def columns(self, logits: Tensor, top: int) -> dict[str, list[Any]]:
        """Return the columns of ``predict``'s table, [N · top], the most probable class first. logits: [N, K]."""
        probabilities, numbers = logits.double().softmax(dim=1).topk(top)
        return {
            "class": [self.names[number] for number in numbers.flatten().tolist()],
            "probability": probabilities.flatten().tolist(),
        }


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
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"accelerator '{accelerator}' cannot be used: {error}") from error


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
