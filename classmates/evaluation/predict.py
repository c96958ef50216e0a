"""Classes of unlabelled image files, predicted by a trained student."""

from __future__ import annotations

import json
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pandas as pd
import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from classmates._csv import as_csv
from classmates._files import output_file, require_writable
from classmates.data.augmentation import normalise
from classmates.data.batches.streaming import decode_fast
from classmates.data.parts import ImageFile
from classmates.data.readers.images import EXTENSIONS, decode, fit, stack
from classmates.errors import UserError
from classmates.runs.student import StudentCard, load_student

WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    ".csv": as_csv,
    ".json": lambda frame: json.dumps(frame.to_dict("records"), indent=2, ensure_ascii=False),
}


@torch.inference_mode()
def predict(
    run: str | Path,
    images: list[str],
    *,
    top: int = 1,
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
        out: a .csv or .json file to write the result to.
        batch_size: how many images at a time.
        accelerator: auto, cpu, gpu, mps, ... as Lightning names them.
        network: where to load the weights, for a student that was given to training as an object (in Python).

    Returns:
        One row for each image, in the order given, folders sorted: ``file``, ``class``, ``probability`` (softmax of
        the logits). With ``top`` above 1, that many rows for each image, numbered from 1 by a column ``rank``.

    Raises:
        UserError: no student in the folder, no image found, an image that cannot be read (named), or an argument
            that cannot work.
    """
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
    device, paths = device_for(accelerator), _find(images)

    student.to(device)
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    logits = []
    with ThreadPool() as pool:  # decoders run outside Python's lock
        for start in tqdm(range(0, len(paths), batch_size), "predicting", unit="batch", delay=2, leave=False):
            pixels = torch.stack(pool.map(lambda path: read(path, card), paths[start : start + batch_size]))
            inputs = normalise(pixels.to(device), mean, std, torch.contiguous_format)
            logits.append(student(inputs).cpu())
    probabilities, numbers = torch.cat(logits).double().softmax(dim=1).topk(top)

    columns = {
        "file": [str(path) for path in paths for _ in range(top)],
        "rank": [*range(1, top + 1)] * len(paths),
        "class": [classes[number] for number in numbers.flatten().tolist()],
        "probability": probabilities.flatten().tolist(),
    }
    if top == 1:
        del columns["rank"]
    frame = pd.DataFrame(columns)
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(WRITERS[file.suffix](frame), encoding="utf-8")
    return frame


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
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
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
