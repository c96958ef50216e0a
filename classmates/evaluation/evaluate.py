"""Scores of a trained student, again on its own data or on others with the same classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import Tensor, nn
from torch.utils.data import Dataset

from classmates._files import output_file, require_writable
from classmates.data.batches.loaders import eval_loader
from classmates.data.loading import ImageData, load
from classmates.data.readers.images import IN_MEMORY
from classmates.errors import UserError, unknown
from classmates.evaluation.collect import Predictions, collect
from classmates.evaluation.predict import device_for
from classmates.runs.folder import stored_settings
from classmates.runs.student import StudentCard, load_embedder, load_student
from classmates.runs.task_spec import TaskSpec, task_of
from classmates.tasks.protocol import Metric, ProtocolRecord, Scores
from classmates.tasks.task import Task

SPLITS = ("test", "val", "train")


class StudentScores(dict[str, Metric]):
    """The metrics of a student by name, as in ``scores["top1"].value``; as text, a table.

    Args:
        scores: of the student.
        protocol: how it was judged.
        drawn: the hash of what was drawn to judge by, such as a list of episodes; None without.
    """

    def __init__(self, scores: Scores, protocol: ProtocolRecord, drawn: str | None = None):
        super().__init__(scores)
        self.protocol = protocol
        self.drawn = drawn

    def __str__(self) -> str:
        count = self[self.protocol.headline].count
        return self.protocol.table(self.protocol.counted, {str(count): self})

    def to_json(self) -> str:
        """Return the metrics as JSON, each as in a run's ``result.json``; beside them what was drawn, if it was."""
        metrics: dict[str, Any] = {name: asdict(metric) for name, metric in self.items()}
        drawn = {} if self.drawn is None else {"drawn": self.drawn, "settings": dict(self.protocol.settings)}
        return json.dumps(metrics | drawn, indent=2)


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
    task: Task | Callable[[], Task] | None = None,
    network: nn.Module | None = None,
) -> StudentScores:
    """Score the student of a finished run.

    On the run's own data the split is the run's own, and the test scores are those of its ``result.json``. Images
    are prepared as they were in training's own evaluation, with the mean and deviation of the run's training images.
    Any student can be judged as few-shot learners are, on classes that it was not trained on, by its embeddings.

    Args:
        run: the run's folder.
        data: other data with the same classes, or for few_shot with others; those of the run if not given.
        data_dir: where the files of a data set known by name are; as in training if neither it nor other data are
            given.
        label: which labels, where other data have several.
        split: which part of the data. Of a folder without test/, "test" is the share that is split off as one.
        image_size: pixels of the square that the student gets; as in training if not given.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out and
            says which; as in training if not given.
        batch_size: images at a time; as in training if not given. It changes memory and speed, and scores in the
            last digits at most.
        num_workers: processes that read images which do not fit in memory.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        out: a file for the scores, as JSON.
        task: how it is judged; as the run's own task does if not given. Its options follow with a dot, such as --task
            few_shot --task.shot 5 --task.eval_way 10.
        network: where to load the weights, for a student that was given to training as an object (in Python).

    Returns:
        Its metrics by name, each with value, 95 % interval if it has one, and number of images or episodes: of a
        classifier accuracy ("top1"), negative log-likelihood ("nll"), Brier score ("brier") and calibration error
        ("ece"); by episodes "accuracy", "loss", "class_spread" and "worst_class".

    Raises:
        UserError: no finished run, data that cannot be read, other classes than the student's (named), for few_shot
            classes that it was trained on (named), a part that the data do not have, or options of the task that are
            for training.
    """
    if out is not None:
        require_writable(Path(out))
    judging = judging_task(Path(run), task)
    predictions = student_predictions(
        run,
        data,
        task=judging,
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
    protocol, labels = judging.protocol, predictions.labels
    found = protocol.score(predictions.logits["student"], labels)
    scores = StudentScores(found, protocol.record, protocol.fingerprint(labels))
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(scores.to_json(), encoding="utf-8")
    return scores


def student_predictions(
    run: str | Path,
    data: str | Path | Dataset[Any] | None = None,
    *,
    task: Task,
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
    """Return what a task judges of the student on a split, as "student"; arguments and errors as in ``evaluate``."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    student, card = load_judged(run, network, task)
    device, settings = device_for(accelerator), settings_of(Path(run))
    images = load_as_trained(Path(run), settings, card, data, data_dir, label, split, image_size, on_bad_image, task)
    for note in images.notes:
        print(f"note: {note}")
    part = getattr(images, split)
    if part is None:
        raise UserError(f"split='val': '{images.name}' has no validation images (val_fraction was 0): take another")
    task.check_judged(part, f"the {split} images of '{images.name}'")
    predictor = task.protocol.predictor(student.to(device))

    def predict(batch: Tensor) -> tuple[dict[str, Tensor], None]:
        return {"student": predictor(batch)}, None

    batch_size = batch_size or settings["batch_size"]
    batches = eval_loader(images, part, batch_size, num_workers=num_workers, device=device)
    return collect(predict, batches, description=split)


def judging_task(run: Path, task: Task | Callable[[], Task] | None) -> Task:
    """Return the task by which a student is judged: the one given, else the run's own.

    Raises:
        UserError: options are given that are for training alone.
    """
    if task is None:
        return task_of(stored_settings(run).get("task"))
    spec = TaskSpec.of(task)
    made = task_of(task)
    idle = [] if spec is None or isinstance(task, Task) else [o for o in spec.options if o in made.training_options]
    if idle:
        raise UserError(f"task.{idle[0]} is for training: it changes nothing here; leave it out")
    return made


def load_judged(run: str | Path, network: nn.Module | None, task: Task) -> tuple[nn.Module, StudentCard]:
    """Load a run's student so that it returns what the task judges; UserError where it cannot."""
    if task.output == "embedding":
        return load_embedder(run, network)
    student, card = load_student(run, network)
    if card.output != task.output:
        raise UserError(
            f"the student in '{run}' returns embeddings and has no classifier: judge it with --task few_shot"
        )
    return student, card


def load_as_trained(
    run: Path,
    settings: Mapping[str, Any],
    card: StudentCard,
    data: str | Path | Dataset[Any] | None,
    data_dir: str | Path | None,
    label: str | None,
    split: str,
    image_size: int | None,
    on_bad_image: Literal["error", "skip"] | None,
    task: Task,
) -> ImageData:
    """Load the data, split as the run's settings say, for the student's channels, size and preparation."""
    channels, *size = card.input_shape
    square = size[0] if size[0] == size[1] else None
    if data is None:
        data = settings["data"]
        own_size = settings["image_size"]
        if own_size is None and size[0] > IN_MEMORY:
            own_size = square  # what the rule of today says of these photos may not be what it said in training
        data_dir, label = data_dir or settings["data_dir"], label or settings["label"]
        if str(data).startswith("<"):
            raise UserError(f"'{run}' was trained on a dataset given in Python: give it again, or a folder, as data")
    else:
        own_size = square
    images = load(
        data,
        data_dir=data_dir,
        label=label,
        image_size=image_size or own_size,
        channels=channels,
        # The test images are the same whatever is split off from the others.
        val_fraction=0 if split == "test" else settings["val_fraction"],
        train_size=None if split == "test" else settings["train_size"],
        seed=settings["seed"],
        on_bad_image=on_bad_image or settings["on_bad_image"],
        classes=task.classes,
    )
    REQUIRED[task.classes](images, card, split)
    if image_size is None and images.image_size != tuple(size):
        raise UserError(
            f"the images of '{images.name}' have {_by(images.image_size)} pixels, the student takes {_by(size)}: "
            "give images of that size, or an image_size"
        )
    return replace(images, mean=card.mean, std=card.std, interpolation=card.interpolation)


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


def require_same_classes(images: ImageData, card: StudentCard, split: str) -> None:
    """Raise UserError unless the classes are the student's, in its order: labels are numbers of classes."""
    found, known = images.class_names, card.class_names
    if found == known:
        return
    more = [name for name in found if name not in known]
    less = [name for name in known if name not in found]
    differences = [
        *([f"the student does not know {_some(more)}"] if more else []),
        *([f"'{images.name}' lacks {_some(less)}"] if less else []),
    ]
    raise UserError(
        f"the classes of '{images.name}' are not the student's: "
        f"{'; '.join(differences) or 'they are in another order'}. Give data with the same classes"
    )


def require_new_classes(images: ImageData, card: StudentCard, split: str) -> None:
    """Raise UserError where the student was trained on a class of the split; those of "train" may be its own."""
    part = getattr(images, split)
    known = [name for name in ([] if part is None else part.class_names) if name in card.class_names]
    if known and split != "train":
        raise UserError(
            f"the student was trained on {_some(known)} of the {split} images of '{images.name}': it is judged on "
            "classes that it was never trained on; give data of such classes"
        )


REQUIRED = {"shared": require_same_classes, "disjoint": require_new_classes}
"""The check of the data's classes, by whether the task's parts have the same ones."""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
