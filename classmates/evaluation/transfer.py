"""How well a student's features tell other classes apart: by a linear classifier of them, and by the nearest ones."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import Dataset

from classmates._files import output_file, require_writable
from classmates._progress import bar, note
from classmates._shown import Shown
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import load
from classmates.data.parts import ImageData, Split
from classmates.data.readers.listing import listed, without_images
from classmates.errors import UserError
from classmates.evaluation.collect import collect
from classmates.evaluation.evaluate import settings_of
from classmates.evaluation.predict import device_for, require_finite
from classmates.evaluation.scored_images import is_own, require_size
from classmates.networks.building.embedding import width_of
from classmates.runs.hub import from_anywhere
from classmates.runs.student import load_embedder
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.metrics import TOP1, accuracy_interval
from classmates.tasks.protocol import Metric, Scores

STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""The strengths that are tried of the linear classifier: scikit-learn's C, more of which punishes weights less."""
ITERATIONS = 1000
"""The most steps of L-BFGS of one fit."""
TEMPERATURE = 0.07
"""By which a neighbour's vote grows with its similarity (Wu et al., 2018)."""


@from_anywhere
def transfer(
    run: str | Path,
    data: str | Path | Dataset[Any],
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    image_size: int | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    on_bad_image: Literal["error", "skip"] = "error",
    neighbours: int = 20,
    batch_size: int | None = None,
    num_workers: int = 2,
    accelerator: str = "auto",
    out: Path | None = None,
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> TransferScores:
    """Judge how well a student's features tell the classes of other data apart; the student is not trained further.

    Two classifiers are made of the embeddings of the training images, and scored on the test images. The linear one
    is logistic regression on standardised embeddings, with the one of seven L2 penalties that makes the validation
    images most likely (after Kornblith et al., "Do Better ImageNet Models Transfer Better?", CVPR 2019, who try 45,
    go by accuracy, and fit the chosen one again to training and validation images). The other is the vote of the
    nearest training images by cosine similarity, each counting exp(similarity / 0.07) (Wu et al., "Unsupervised
    Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018).

    Images are prepared as in training's own evaluation, and none is varied.

    Args:
        run: the run's folder, or hf:OWNER/NAME of the Hub, with @REVISION as it was then.
        data: labelled images of any classes, as ``train`` takes them; without test images, a fifth is split off,
            always the same ones.
        data_dir: where the files of a data set known by name are.
        label: which labels, where the data have several.
        image_size: pixels of the square that the student gets; as in training if not given.
        train_size: learn from only so many training images, each class in proportion.
        val_fraction: how much of the training images the penalty is chosen on, where no validation images are given.
        seed: decides which images become validation and, with ``train_size``, training images.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out.
        neighbours: how many of the nearest images vote.
        batch_size: images at a time; as in training if not given.
        num_workers: processes that read images which do not fit in memory.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        out: a file for the scores, as JSON.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python file that the run's folder names of its model (FILE.py:CLASS).

    Returns:
        The metrics of "linear" and of "nearest" by name, each with value, 95 % interval if it has one, and number of
        images; of the nearest only the accuracy, as what has no vote has no likelihood.

    Raises:
        UserError: no finished run, data that cannot be read or divided, a class without a training image, no
            validation images, fewer images than neighbours, or a student whose features are not finite.
    """
    if out is not None:
        require_writable(Path(out))
    if neighbours < 1:
        raise UserError(f"neighbours is {neighbours}; give 1 or more")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    student, card = load_embedder(run, network, trust_code=trust_code)
    settings, device = settings_of(Path(run)), device_for(accelerator)
    channels, *size = card.input_shape
    square = size[0] if size[0] == size[1] else None
    images = load(
        data,
        data_dir=data_dir,
        label=label,
        image_size=square if image_size is None else image_size,
        channels=channels,
        train_size=train_size,
        val_fraction=val_fraction,
        seed=seed,
        on_bad_image=on_bad_image,
    )
    if image_size is None:
        require_size(images.name, images.image_size, size)
    validation = require_parts(images, neighbours)
    for text in images.notes:
        note(text)
    if is_own(data, Path(run), settings):
        note(f"the student was trained on '{images.name}': this says how well it knows them, not what transfers")
    if image_size is not None:
        width_of(student, (channels, image_size, image_size))
    student = student.to(device)
    images = replace(images, mean=card.mean, std=card.std, interpolation=card.interpolation)
    batch_size = batch_size or settings["batch_size"]

    def features(part: Split, name: str) -> Features:
        batches = eval_loader(images, part, batch_size, num_workers=num_workers, device=device)
        found = collect(lambda batch: ({"student": student(batch)}, None), batches, description=name)
        require_finite(found.logits["student"], f"images of the {name} part of '{images.name}'")
        return Features(found.logits["student"].double().numpy(), found.labels.numpy())

    train, val, test = features(images.train, "train"), features(validation, "val"), features(images.test, "test")
    linear, strength = best_linear(train, val)
    labels, groups = images.test.labels, images.test.groups
    protocol = ClassificationProtocol()
    logits = torch.from_numpy(log_probabilities(linear, test.values))
    right = torch.from_numpy(nearest_classes(train, test.values, neighbours)) == labels
    low, high = accuracy_interval(right, groups)
    nearest = {TOP1: Metric(right.double().mean().item(), low, high, len(labels))}
    scores = TransferScores(
        {"linear": protocol.score(logits, labels, groups), "nearest": nearest},
        strength=strength,
        neighbours=neighbours,
        features=train.values.shape[1],
        images={"train": len(train.labels), "val": len(val.labels), "test": len(labels)},
        chance=protocol.chance(labels),
    )
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(scores.to_json(), encoding="utf-8")
    return scores


class Features(NamedTuple):
    """The embeddings of a part's images, [N, D] in float64, and their classes, [N]."""

    values: np.ndarray
    labels: np.ndarray


def require_parts(images: ImageData, neighbours: int) -> Split:
    """Return the validation images; UserError where the parts are not enough to learn from."""
    if images.val is None:
        raise UserError(
            f"'{images.name}' has no validation images, on which the linear classifier's penalty is chosen: give a "
            "val_fraction above 0, such as 0.1"
        )
    if missing := without_images(images.train):
        raise UserError(
            f"no training image of {listed(missing)} in '{images.name}': give some, or a higher train_size"
        )
    if neighbours > len(images.train):
        raise UserError(f"neighbours is {neighbours}, and there are {len(images.train)} training images: give fewer")
    return images.val


def best_linear(train: Features, val: Features) -> tuple[Pipeline, float]:
    """Return the linear classifier of ``train``, of those tried, that makes ``val`` most likely, and its strength."""
    found = []
    for strength in bar(STRENGTHS, "linear", "fit"):
        classifier = linear_classifier(train, strength)
        likely = log_probabilities(classifier, val.values)[np.arange(len(val.labels)), val.labels].mean()
        found.append((likely, strength, classifier))
    _, strength, classifier = max(found, key=lambda each: each[0])
    return classifier, strength


def log_probabilities(classifier: Pipeline, values: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities of a linear classifier, [N, K], finite however small those are."""
    scores = classifier.decision_function(values)
    scores = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
    return np.asarray(log_softmax(scores, axis=1))


def linear_classifier(known: Features, strength: float) -> Pipeline:
    """Fit logistic regression on standardised features; a note says where the fit came to no end."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=ITERATIONS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(known.values, known.labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        note(f"the linear classifier with C = {strength:g} had not converged after {ITERATIONS} steps")
    return classifier


def nearest_classes(known: Features, values: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the class that the nearest of the known features vote for, [n].

    Of K classes the first with the highest sum over the nearest of exp(cosine similarity / TEMPERATURE).
    """
    voting = KNeighborsClassifier(
        neighbours, metric="cosine", algorithm="brute", weights=lambda distances: np.exp(-distances / TEMPERATURE)
    )
    return voting.fit(known.values, known.labels).predict(values)


class TransferScores(Shown, dict[str, Scores]):
    """The metrics of the two classifiers by name, as in ``scores["linear"]["top1"].value``; as text, a table.

    Args:
        scores: of each classifier.
        strength: of the linear one, chosen on validation images.
        neighbours: how many vote.
        features: how many numbers an embedding has.
        images: how many there are of each part.
        chance: the accuracy of always giving the commonest class.
    """

    def __init__(
        self,
        scores: dict[str, Scores],
        *,
        strength: float,
        neighbours: int,
        features: int,
        images: dict[str, int],
        chance: float,
    ):
        super().__init__(scores)
        self.strength = strength
        self.neighbours = neighbours
        self.features = features
        self.images = images
        self.chance = chance

    @property
    def headline(self) -> str:
        main = ClassificationProtocol().record.main
        return f"{main.name} of a linear classifier {main.text(self['linear'][TOP1].value)}"

    def __str__(self) -> str:
        protocol = ClassificationProtocol().record
        lines = {
            "linear classifier": self["linear"],
            f"{self.neighbours} nearest images": self["nearest"],
            "always the commonest": {TOP1: Metric(self.chance)},
        }
        train, val, test = self.images.values()
        return (
            protocol.table(f"{test:,} test images", lines)
            + f"\n\nlearnt from {self.features:,} features of {train:,} training images; the linear classifier's\n"
            f"C = {self.strength:g} was chosen on {val:,} validation images"
        )

    def to_json(self) -> str:
        """Return the metrics as JSON, each as in a run's ``result.json``; beside them how they came about."""
        metrics = {who: {name: asdict(metric) for name, metric in scores.items()} for who, scores in self.items()}
        return json.dumps(metrics | vars(self), indent=2)
