"""Scores of a trained student, again on its own data or on others with the same classes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import Tensor, nn
from torch.utils.data import Dataset

from classmates._files import output_file, require_writable
from classmates.data.batches.loaders import eval_loader
from classmates.errors import UserError, unknown
from classmates.evaluation.collect import Predictions, collect
from classmates.evaluation.predict import device_for
from classmates.evaluation.scored_images import load_as_trained
from classmates.runs.student import load_student
from classmates.tasks.classification import Classification
from classmates.tasks.protocol import Metric, ProtocolRecord, Scores

SPLITS = ("test", "val", "train")


class StudentScores(dict[str, Metric]):
    """The metrics of a student by name, as in ``scores["top1"].value``; as text, a table.

    Args:
        scores: of the student.
        protocol: how it was judged.
    """

    def __init__(self, scores: Scores, protocol: ProtocolRecord):
        super().__init__(scores)
        self.protocol = protocol

    def __str__(self) -> str:
        count = self[self.protocol.headline].count
        return self.protocol.table(self.protocol.counted, {str(count): self})

    def to_json(self) -> str:
        """Return the metrics as JSON, each as a run's ``result.json`` has it."""
        return json.dumps({name: asdict(metric) for name, metric in self.items()}, indent=2)


def evaluate(
    run: str | Path,
    data: str | Path | Dataset[Any] | None = None,
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    split: Literal["test", "val", "train"] = "test",
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] | None = None,
    batch_size: int | None = None,
    num_workers: int = 2,
    accelerator: str = "auto",
    out: Path | None = None,
    network: nn.Module | None = None,
) -> StudentScores:
    """Score the student of a finished run.

    On the run's own data the split is the run's own, and the test scores are those of its ``result.json``. Images
    are prepared as they were in training's own evaluation, with the mean and deviation of the run's training images.

    Args:
        run: the run's folder.
        data: other data with classes of the student's, by name; some may be missing. Those of the run if not given.
        data_dir: where the files of a data set known by name are; as in training if neither it nor other data are
            given.
        label: which labels, where other data have several.
        split: which part of the data: of the run's own as they were divided then. Of another folder without parts,
            and of another dataset in Python, every image.
        image_size: pixels of the square that the student gets; as in training if not given.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out and
            says which; as in training if not given.
        batch_size: images at a time; as in training if not given. It changes memory and speed, and scores in the
            last digits at most.
        num_workers: processes that read images which do not fit in memory.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        out: a file for the scores, as JSON.
        network: where to load the weights, for a student that was given to training as an object (in Python).

    Returns:
        Its metrics by name, each with value, 95 % interval if it has one, and number of images: of a classifier
        accuracy ("top1"), negative log-likelihood ("nll"), Brier score ("brier") and calibration error ("ece").

    Raises:
        UserError: no finished run, data that cannot be read, a class that the student does not know, or a part that
            the data do not have.
    """
    if out is not None:
        require_writable(Path(out))
    predictions = student_predictions(
        run,
        data,
        data_dir=data_dir,
        label=label,
        split=split,
        image_size=image_size,
        on_bad_image=on_bad_image,
        batch_size=batch_size,
        num_workers=num_workers,
        accelerator=accelerator,
        network=network,
    )
    protocol = Classification().protocol
    scores = StudentScores(protocol.score(predictions.logits["student"], predictions.labels), protocol.record)
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(scores.to_json(), encoding="utf-8")
    return scores


def student_predictions(
    run: str | Path,
    data: str | Path | Dataset[Any] | None = None,
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    split: Literal["test", "val", "train"] = "test",
    image_size: int | None = None,
    on_bad_image: Literal["error", "skip"] | None = None,
    batch_size: int | None = None,
    num_workers: int = 2,
    accelerator: str = "auto",
    network: nn.Module | None = None,
) -> Predictions:
    """Return what the student of a run predicts of a split, as "student"; arguments and errors as in ``evaluate``."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    student, card = load_student(run, network)
    device, settings = device_for(accelerator), settings_of(Path(run))
    images = load_as_trained(Path(run), settings, card, data, data_dir, label, split, image_size, on_bad_image)
    for note in images.notes:
        print(f"note: {note}")
    predictor = Classification().protocol.predictor(student.to(device))

    def predict(batch: Tensor) -> tuple[dict[str, Tensor], None]:
        return {"student": predictor(batch)}, None

    batch_size = batch_size or settings["batch_size"]
    batches = eval_loader(images, images.test, batch_size, num_workers=num_workers, device=device)
    return collect(predict, batches, description=split)


def settings_of(run: Path) -> dict[str, Any]:
    """Read what the run's config.yaml says of its data and batches; UserError where that is missing or damaged."""
    path = run / "config.yaml"
    wanted = ["data", "data_dir", "label", "image_size", "val_fraction", "train_size", "seed", "on_bad_image"]
    wanted += ["batch_size"]
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: settings[name] for name in wanted}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"'{path}' is missing or damaged ({error}): give the folder of a finished run") from error
