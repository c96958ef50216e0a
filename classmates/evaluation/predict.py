"""Classes of unlabelled image files, predicted by a trained student."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from classmates._files import output_file, require_writable
from classmates._machine import require_kernels, usable_cores
from classmates._memory import keep_freed_memory
from classmates._names import in_unicode
from classmates._progress import bar, note
from classmates.data.parts import ImageFile
from classmates.data.readers.listing import skipped
from classmates.data.readers.opening import UnreadableImage
from classmates.errors import UserError, check_choice
from classmates.evaluation.answers import WRITERS, Show, TrainedClasses
from classmates.evaluation.explaining import write_explanations
from classmates.evaluation.image_files import find_images
from classmates.evaluation.networks import load_for_answers
from classmates.evaluation.new_classes import NewClasses, check_options, find_support, make_prototypes
from classmates.evaluation.reading import prepared, read
from classmates.evaluation.temperature import Calibrated
from classmates.runs.hub import from_anywhere
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard


@from_anywhere
def predict(
    run: str | Path,
    images: Sequence[str],
    *,
    top: int = 1,
    on_bad_image: Literal["error", "skip"] = "skip",
    support: Path | None = None,
    prototypes: Path | None = None,
    save_prototypes: Path | None = None,
    none_above: float | None = None,
    calibrated: bool = False,
    early_exit: bool = False,
    explain: Path | None = None,
    out: Path | None = None,
    show: Show = "table",
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
        images: image files, folders whose images are all taken, those in folders below them too, patterns such as
            ``photos/**/*.jpg`` in quotes, and - for a list on standard input, one a line. In Python also one alone.
        top: how many classes to give for each image, the most probable first.
        on_bad_image: what to do about images that cannot be read: "skip" leaves them out and says which, "error"
            names one and gives no answer. Of each class of the support one must be readable.
        support: a folder with a folder of photos for each new class.
        prototypes: a file that ``save_prototypes`` wrote, instead of the photos.
        save_prototypes: a .safetensors file to keep the prototypes of the support in.
        none_above: the novelty above which an image is of none of the new classes, such as 1: farther from all of
            them than 95 % of their photos. With ``top``, the first row of an image says so.
        calibrated: divide logits by the temperature in the student's card (``evaluate --calibrated``), so that
            probabilities are about as often right as they say.
        early_exit: answer at the first exit that is sure enough, by the thresholds in the card (``export --what
            early_exit``).
        explain: a folder for a picture of each image with the places that speak for its class (Grad-CAM).
        out: a .csv, .jsonl (a line of JSON for each row) or .json file to write the result to; the command then
            prints how many images are of which class.
        show: how the command prints it: "table", "csv" or "jsonl".
        batch_size: how many images at a time.
        accelerator: auto, cpu, gpu, mps, ... as Lightning names them.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python files that the run's folder names, of its model or its task (FILE.py:CLASS).

    Returns:
        One row for each image, in the order given, folders sorted: ``file``, ``class``, ``probability`` (softmax of
        the logits). With ``top`` above 1, that many rows for each image, numbered from 1 by a column ``rank``. With
        new classes also ``distance`` from the class's prototype and, if a class has two photos that differ,
        ``novelty``: that distance as a multiple of the one within which 95 % of the photos lie from the nearest
        prototype, those photos left out.

    Raises:
        UserError: no student in the folder, no image found or none that can be read, an image that cannot be read
            (named) where ``on_bad_image`` is "error", an argument that cannot work, a support with one class or with
            an empty one, or prototypes of another student.
    """
    check_choice("on_bad_image", on_bad_image, ("error", "skip"))
    check_choice("show", show, Show)
    check_options(support, prototypes, save_prototypes, none_above)
    by_prototypes = support is not None or prototypes is not None
    own = {"calibrated": calibrated, "early_exit": early_exit}
    for name in [name for name, given in {**own, "explain": explain is not None}.items() if given and by_prototypes]:
        raise UserError(f"{name} is of the classes that the student was trained on: leave it out with new classes")
    if early_exit and explain is not None:
        raise UserError("explain looks into the whole network, which early_exit leaves early: give one of them")
    student, card = load_for_answers(
        run, network, wants="embedding" if by_prototypes else "logits", **own, trust_code=trust_code
    )
    known = None if prototypes is None else load_prototypes(prototypes, run)
    photos = None if support is None else find_support(Path(support))
    classes = (known or photos or card).class_names
    check_numbers(top, batch_size, len(classes))
    if out is not None and Path(out).suffix not in WRITERS:
        raise UserError(f"out is '{out}'; give a file that ends in {' or '.join(WRITERS)}")
    for file in (out, save_prototypes, None if explain is None else Path(explain) / "explanation.png"):
        if file is not None:
            require_writable(Path(file))
    device, (paths, notes) = device_for(accelerator), find_images(images)

    keep_freed_memory()
    student.to(device)
    if photos is not None:
        shown = _readable(outputs_of(student, card, photos.files, batch_size, device), on_bad_image)
        known, more = make_prototypes(run, photos.among(shown.files), shown.values, trust_code=trust_code)
        notes += [*photos.notes, *more, *_skipped(shown)]
    answers = TrainedClasses(card.class_names) if known is None else NewClasses(known, none_above)
    found = _readable(outputs_of(student, card, paths, batch_size, device), on_bad_image)
    if explain is not None:
        network = student.network if isinstance(student, Calibrated) else student  # whose stages can be found
        notes += write_explanations(Path(explain), network, card, found.files, found.values, device)
    for text in [*notes, *_skipped(found)]:
        note(text)
    columns = {
        "file": [in_unicode(str(path)) for path in found.files for _ in range(top)],
        "rank": [*range(1, top + 1)] * len(found.files),
        **answers.columns(found.values, top),
    }
    if top == 1:
        del columns["rank"]
    frame = pd.DataFrame(columns)
    frame.attrs["show"] = show
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(WRITERS[file.suffix](frame), encoding="utf-8")
    if known is not None and save_prototypes is not None:
        known.save(Path(save_prototypes))
    return frame


def check_numbers(top: int, batch_size: int, classes: int) -> None:
    """Raise UserError for so many answers of each image, or images at a time, that there cannot be."""
    if not 1 <= top <= classes:
        raise UserError(f"top is {top}, but the student knows {classes} classes: give 1 to {classes}")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")


class Outputs(NamedTuple):
    """The network's outputs of image files, [n, ...], on the CPU, and the errors of the files that cannot be read.

    files: those that can, [n].
    """

    files: list[Path]
    values: Tensor
    errors: list[UnreadableImage]


@torch.inference_mode()
def outputs_of(
    network: nn.Module, card: StudentCard, files: Sequence[ImageFile], batch_size: int, device: torch.device
) -> Outputs:
    """Return what the network gives of image files; UserError where none can be read."""
    if card.input_shape[0] not in (1, 3):
        raise UserError(f"the student takes images of {card.input_shape[0]} channels, image files give 1 or 3")
    good: list[Any] = []
    outputs: list[Tensor] = []
    errors: list[UnreadableImage] = []
    with ThreadPool(usable_cores()) as pool:  # decoders run outside Python's lock
        for start in bar(range(0, len(files), batch_size), "predicting", "batch"):
            batch = files[start : start + batch_size]
            found = list(zip(batch, pool.map(partial(_attempt, card=card), batch), strict=True))
            images = [image for _, image in found if isinstance(image, Tensor)]
            good += [file for file, image in found if isinstance(image, Tensor)]
            errors += [image for _, image in found if isinstance(image, UnreadableImage)]
            if images:
                outputs.append(network(prepared(torch.stack(images), card, device)).cpu())
    if not good:
        if len(errors) == 1:
            raise errors[0]
        raise UserError(f"none of {len(files)} images can be read, among them: {errors[0]}")
    values = torch.cat(outputs)
    require_finite(values)
    return Outputs(good, values, errors)


def require_finite(outputs: Tensor, what: str = "images") -> None:
    """Raise UserError for a network that gives anything but finite numbers of some images.

    outputs: [N, ...]. what: whose they are, for the error message.
    """
    bad = int((~outputs.flatten(1).isfinite()).any(dim=1).sum())
    if bad:
        raise UserError(
            f"the student gives numbers that are not finite of {bad} of {len(outputs)} {what}: its training has "
            "diverged; train again with a lower --lr"
        )


def _readable(outputs: Outputs, on_bad_image: Literal["error", "skip"]) -> Outputs:
    """Return the outputs; raise the first error where there is one and the user wants to stop then."""
    if outputs.errors and on_bad_image == "error":
        raise outputs.errors[0]
    return outputs


def _skipped(outputs: Outputs) -> list[str]:
    """Return the note on files that could not be read; none where all could."""
    return [skipped([*map(str, outputs.errors)])] if outputs.errors else []


def _attempt(file: ImageFile, card: StudentCard) -> Tensor | UnreadableImage:
    try:
        return read(file, card)
    except UnreadableImage as error:
        return error


def device_for(accelerator: str) -> torch.device:
    """Return the device of an accelerator as Lightning names it; UserError where it cannot be used."""
    try:
        device = Fabric(accelerator=accelerator, devices=1, plugins=[LightningEnvironment()]).device  # also on SLURM
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"accelerator '{accelerator}' cannot be used: {error}") from error
    require_kernels(device)
    return device
