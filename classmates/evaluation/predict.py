"""Classes of unlabelled image files, predicted by a trained student."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from classmates._files import output_file, require_writable
from classmates.data.augmentation import normalise
from classmates.data.batches.streaming import decode_fast
from classmates.data.parts import ImageFile
from classmates.data.readers.images import EXTENSIONS, decode, fit, stack
from classmates.errors import UserError
from classmates.evaluation.new_classes import NewClasses, check_options, find_support, make_prototypes
from classmates.runs.prototypes import load_prototypes
from classmates.runs.student import StudentCard, load_embedder, load_student

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
    support: Path | None = None,
    prototypes: Path | None = None,
    save_prototypes: Path | None = None,
    none_above: float | None = None,
    out: Path | None = None,
    batch_size: int = 64,
    accelerator: str = "auto",
    network: nn.Module | None = None,
) -> pd.DataFrame:
    """Classify image files with the student of a finished run, by the classes that it was trained on or by new ones.

    New classes need no training, only a few photos of each (``support``): an image is of the class to whose
    prototype, the mean of its photos' embeddings, its own embedding is nearest.

    Args:
        run: the run's folder.
        images: image files, and folders whose images are all taken, those in folders below them too.
        top: how many classes to give for each image, the most probable first.
        support: a folder with a folder of photos for each new class.
        prototypes: a file that save_prototypes wrote, instead of the photos.
        save_prototypes: a .safetensors file to keep the prototypes of the support in.
        none_above: the novelty above which an image is of none of the new classes; 1 is sound, see Returns.
        out: a .csv or .json file to write the result to.
        batch_size: how many images at a time.
        accelerator: auto, cpu, gpu, mps, ... as Lightning names them.
        network: where to load the weights, for a student that was given to training as an object (in Python).

    Returns:
        One row for each image, in the order given, folders sorted: ``file``, ``class``, ``probability`` (softmax of
        the logits). With ``top`` above 1, that many rows for each image, numbered from 1 by a column ``rank``. With
        new classes also ``distance`` from the class's prototype and, if a class has two photos or more, ``novelty``:
        that distance as a multiple of the one within which 95 % of the photos lie from the others of their class.

    Raises:
        UserError: no student in the folder, no image found, an image that cannot be read (named), an argument that
            cannot work, a support with one class or with an empty one, or prototypes of another student.
    """
    check_options(support, prototypes, save_prototypes, none_above)
    by_prototypes = support is not None or prototypes is not None
    student, card = (load_embedder if by_prototypes else load_student)(run, network)
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
    device, paths = device_for(accelerator), _find(images)

    student.to(device)
    if photos is not None:
        known, notes = make_prototypes(run, photos, _outputs(student, card, photos.files, batch_size, device))
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    answers = TrainedClasses(card.class_names) if known is None else NewClasses(known, none_above)
    columns = {
        "file": [str(path) for path in paths for _ in range(top)],
        "rank": [*range(1, top + 1)] * len(paths),
        **answers.columns(_outputs(student, card, paths, batch_size, device), top),
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


def _outputs(
    network: nn.Module, card: StudentCard, files: list[Path], batch_size: int, device: torch.device
) -> Tensor:
    """Return what the network gives of image files, [N, ...], on the CPU."""
    if card.input_shape[0] not in (1, 3):
        raise UserError(f"the student takes images of {card.input_shape[0]} channels, image files give 1 or 3")
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    outputs = []
    with ThreadPool() as pool:  # decoders run outside Python's lock
        for start in tqdm(range(0, len(files), batch_size), "predicting", unit="batch", delay=2, leave=False):
            pixels = torch.stack(pool.map(lambda path: read(path, card), files[start : start + batch_size]))
            outputs.append(network(normalise(pixels.to(device), mean, std, torch.contiguous_format)).cpu())
    return torch.cat(outputs)


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
    channels, *size = card.input_shape
    if not isinstance(card.resize, int):
        return stack([fit(decode(path, channels), card.resize)])[0]
    how = InterpolationMode(card.interpolation)
    image = transforms.resize(decode_fast(path, channels), [card.resize], interpolation=how)
    return transforms.center_crop(image, size).permute(1, 2, 0)


def device_for(accelerator: str) -> torch.device:
    """Return the device of an accelerator as Lightning names it; UserError where it cannot be used."""
    try:
        return Fabric(accelerator=accelerator, devices=1).device
    except (ValueError, RuntimeError) as error:
        raise UserError(f"accelerator '{accelerator}' cannot be used: {error}") from error


def _find(images: list[str]) -> list[Path]:
    found: list[Path] = []
    for given in map(Path, images):
        if given.is_dir():
            below = sorted(path for path in given.rglob("*") if path.suffix.lower() in EXTENSIONS)
            found += [path for path in below if not any(p.startswith(".") for p in path.relative_to(given).parts)]
        elif given.is_file():
            found.append(given)
        else:
            raise UserError(f"there is no image file or folder '{given}'")
    if not found:
        raise UserError(f"no image found in {', '.join(images) or 'nothing'}: give files or folders of images")
    return found
