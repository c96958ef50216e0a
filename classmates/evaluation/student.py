"""A trained student in Python: the network, what it was told to expect, and answers for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from classmates.evaluation.answers import TrainedClasses
from classmates.evaluation.networks import load_for_answers
from classmates.evaluation.predict import outputs_of
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
        files = [_file(image) for image in _several(images)]
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
            UserError: an image that cannot be read, or answers that are not finite.
        """
        if isinstance(images, Tensor):
            with torch.inference_mode():
                parts = [self.network(part.to(self.device)).cpu() for part in images.split(batch_size)]
            logits = torch.cat(parts)
        else:
            files = [_file(image) for image in _several(images)]
            found = outputs_of(self.network, self.card, files, batch_size, self.device)
            if found.errors:
                raise found.errors[0]
            logits = found.values
        return pd.DataFrame(TrainedClasses(self.classes).columns(logits, top))


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


def _several(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    return [images] if isinstance(images, str | Path | Image.Image) else images


def _file(image: ImageLike) -> Path | Image.Image:
    return Path(image) if isinstance(image, str) else image
