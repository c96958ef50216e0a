"""A trained student in Python: the network, what it was told to expect, and answers for images."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from classmates.errors import UserError
from classmates.evaluation.answers import TrainedClasses
from classmates.evaluation.networks import load_for_answers, require_classes
from classmates.evaluation.predict import check_numbers, outputs_of, require_finite
from classmates.evaluation.reading import prepared, read
from classmates.runs.student import StudentCard

ImageLike = str | Path | Image.Image


class Student(NamedTuple):
    """A trained student: ``network, card = load_student(run)``, or whole, to ask it for answers.

    network: a plain module in eval mode, from prepared images [B, C, H, W] to logits [B, K]. card: what it is and how
    its images are prepared.
    """

    network: nn.Module
    card: StudentCard

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, [K], in the order of the logits."""
        return self.card.class_names

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))

    def preprocess(self, images: ImageLike | Sequence[ImageLike]) -> Tensor:
        """Return images, files or open ones, as the network takes them: [N, C, H, W], float32, on its device."""
        files = _files(images)
        return prepared(torch.stack([read(file, self.card) for file in files]), self.card, self.device)

    def predict(
        self, images: ImageLike | Sequence[ImageLike] | Tensor, *, top: int = 1, batch_size: int = 64
    ) -> pd.DataFrame:
        """Return the classes of images and their probabilities, the ``top`` most probable of each in turn.

        Args:
            images: files or open images, one or several, or a tensor of prepared ones, [N, C, H, W].
            top: how many classes of each.
            batch_size: how many images at a time.

        Raises:
            UserError: no image, one that cannot be read, a number that is too low or too high, images or answers that
                are not finite, or a student that gives embeddings alone.
        """
        require_classes(self.card, "this student")
        check_numbers(top, batch_size, len(self.classes))
        if isinstance(images, Tensor):
            _require_some(images)
            self._require_prepared(images)
            with torch.inference_mode():
                parts = [self.network(part.to(self.device)).cpu() for part in images.split(batch_size)]
            logits = torch.cat(parts)
            require_finite(logits)
        else:
            found = outputs_of(self.network, self.card, _files(images), batch_size, self.device)
            if found.errors:
                raise found.errors[0]
            logits = found.values
        return pd.DataFrame(TrainedClasses(self.classes).columns(logits, top))

    def _require_prepared(self, images: Tensor) -> None:
        """Raise UserError for a tensor that is not of images as the network takes them."""
        shape, expected = tuple(images.shape), self.card.input_shape
        kind = next((one.dtype for one in self.network.parameters() if one.is_floating_point()), torch.float32)
        if len(shape) != 4 or shape[1] != expected[0] or images.dtype != kind:
            raise UserError(
                f"the tensor of images is {images.dtype} of shape {shape}, and the student takes {kind} of "
                f"[N, {', '.join(map(str, expected))}], normalised: give files or open images, or what preprocess "
                "returns of them"
            )
        if not images.isfinite().all():
            raise UserError("the tensor of images holds numbers that are not finite: prepare them again")


def load_student(
    run: str | Path,
    network: nn.Module | None = None,
    *,
    calibrated: bool = False,
    early_exit: bool = False,
    trust_code: bool = False,
) -> Student:
    """Load the student of a finished run, on the CPU and in eval mode: the plain network, its card, and answers.

    Args:
        run: the run's folder.
        network: where to load the weights, for a student that was given to training as an object; else the card
            says what to build.
        calibrated: divide logits by the temperature in the card (``evaluate(run, calibrated=True)`` fits it).
        early_exit: the network answers each image at the first exit that is sure enough, by the thresholds in the
            card (``export(run, what="early_exit")`` tunes them).
        trust_code: run the Python file that the card names, where the model is one.

    Raises:
        UserError: no student in the folder, a damaged file, a model that cannot be rebuilt, a Python file that is not
            trusted or not the one of training, weights that do not fit it (named), or a card without a temperature or
            thresholds.
    """
    return Student(
        *load_for_answers(
            run,
            network,
            wants=None,
            calibrated=calibrated,
            early_exit=early_exit,
            trust_code=trust_code,
        )
    )


def _files(images: ImageLike | Sequence[ImageLike]) -> list[Path | Image.Image]:
    several = [images] if isinstance(images, str | Path | Image.Image) else images
    _require_some(several)
    for image in several:
        if not isinstance(image, str | Path | Image.Image):
            kind = type(image).__name__
            raise UserError(f"an image is a {kind}: give files or open images; of an array Image.fromarray makes one")
    return [Path(image) if isinstance(image, str) else image for image in several]


def _require_some(images: Sized) -> None:
    if not len(images):
        raise UserError("no image is given: give one or more")
