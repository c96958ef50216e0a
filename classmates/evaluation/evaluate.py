"""Scores of a trained student, again on its own data or on others with the same classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset

from classmates._csv import as_csv
from classmates._files import output_file, require_writable
from classmates._progress import note, say
from classmates._yaml import read_yaml
from classmates.data.batches.loaders import eval_loader
from classmates.errors import UserError, check_choice, unknown
from classmates.evaluation.by_image import answer_table
from classmates.evaluation.collect import Predictions, collect
from classmates.evaluation.corruptions import by_corruption, corrupted
from classmates.evaluation.predict import device_for, require_finite
from classmates.evaluation.scored_images import is_own, load_as_trained
from classmates.evaluation.scores import StudentScores
from classmates.evaluation.temperature import fitted_temperature, temperature_in
from classmates.networks.building.embedding import width_of
from classmates.runs.hub import from_anywhere
from classmates.runs.student import StudentCard, load_embedder, load_student, read_card, write_card
from classmates.runs.student_files import CARD
from classmates.runs.task_spec import TaskLike, TaskSpec, stored_task, task_of
from classmates.tasks.protocol import Protocol
from classmates.tasks.task import Task

SPLITS = ("test", "val", "train")


@from_anywhere
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
    calibrated: bool = False,
    corruptions: bool = False,
    out: Path | None = None,
    answers: Path | None = None,
    task: TaskLike | None = None,
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> StudentScores:
    """Score the student of a finished run.

    On the run's own data the split is the run's own, and the test scores are those of its ``result.json``. Images
    are prepared as they were in training's own evaluation, with the mean and deviation of the run's training images.
    Any student can be judged as few-shot learners are, on classes that it was not trained on, by its embeddings.

    Args:
        run: the run's folder, or hf:OWNER/NAME of the Hub, with @REVISION as it was then.
        data: other data with classes of the student's, by name, of which some may be missing, or for few_shot with
            others; those of the run if not given.
        data_dir: where the files of a data set known by name are; as in training if neither it nor other data are
            given.
        label: which labels, where other data have several.
        split: which part of the data: of the run's own as they were divided then. Of other data without parts every
            image, which a note says.
        image_size: pixels of the square that the student gets; as in training if not given.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out and
            says which; as in training if not given.
        batch_size: images at a time; as in training if not given. It changes memory and speed, and scores in the
            last digits at most.
        num_workers: processes that read images which do not fit in memory.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        calibrated: judge probabilities after temperature scaling, beside those as trained. The temperature is fitted
            on the run's own validation images the first time, and kept in the student's card.
        corruptions: score the images made worse too: noise, blur, darkness, low contrast, coarse pixels and JPEG, at
            five severities each; of few_shot those that classes are learned from as well. It takes some thirty times
            as long.
        out: a file for the scores, as JSON.
        answers: a .csv file with a row for each image: its file from the data's folder on, or its index, its class,
            the predicted class, the probability of that, and whether it is right. Not of few_shot.
        task: how it is judged; as the run's own task does if not given. Its options follow with a dot, such as --task
            few_shot --task.shot 5 --task.eval_way 10.
        network: where to load the weights, for a student that was given to training as an object (in Python).
        trust_code: run the Python files that the run's folder names, of its model or its task (FILE.py:CLASS).

    Returns:
        Its metrics by name, each with value, 95 % interval if it has one, and number of images or episodes: of a
        classifier accuracy ("top1"), negative log-likelihood ("nll"), Brier score ("brier") and calibration error
        ("ece"); by episodes "accuracy", "loss", "class_spread" and "worst_class". Its ``corruptions`` are the same of
        each corruption by name, from severity 1 on, and its ``at_chance`` tells of a student that is no better than
        always giving the commonest answer.

    Raises:
        UserError: no finished run, data that cannot be read, a class that the student does not know, for few_shot
            classes that it was trained on (named), a part that the data do not have, options of the task that are
            for training, or validation images that tell no temperature.
    """
    for file in (out, answers):
        if file is not None:
            require_writable(Path(file))
    judging = judging_task(Path(run), task, trust_code=trust_code)
    protocol = judging.protocol
    if calibrated and protocol.judged != "logits":
        raise UserError(f"calibrated is of probabilities, which the protocol '{protocol.name}' does not judge")
    if answers is not None:
        check_answers(Path(answers), out, protocol)
    predictions_of = partial(
        student_predictions,
        run,
        task=judging,
        data_dir=data_dir,
        label=label,
        image_size=image_size,
        on_bad_image=on_bad_image,
        batch_size=batch_size,
        num_workers=num_workers,
        accelerator=accelerator,
        network=network,
        trust_code=trust_code,
    )
    temperature = None
    if calibrated:
        of_run = data is None or is_own(data, Path(run), settings_of(Path(run)))
        place = (data, data_dir) if of_run else (None, None)
        own = partial(predictions_of, place[0], split="val", label=None, image_size=None, data_dir=place[1])
        temperature = fitted_in_card(run, own)
        if split == "val" and of_run:
            note("the temperature was fitted on these very images: calibrated scores of others would be worse")
    predictions = predictions_of(data, split=split, corruptions=corruptions)
    labels, before = predictions.labels, None
    score = partial(protocol.score, labels=labels, groups=predictions.groups)
    if temperature is not None:
        before = score(predictions.logits["student"])
    found = {name: score(logits / (temperature or 1)) for name, logits in predictions.logits.items()}
    student, worse = found.pop("student"), by_corruption(found)
    at_chance = None
    if len(labels.unique()) > 1:  # of one class alone nothing can be better than naming it
        at_chance = protocol.record.at_chance(student[protocol.headline], protocol.chance(labels))
    files = {what: Path(file) for what, file in {"Scores": out, "Table": answers}.items() if file is not None}
    drawn = protocol.fingerprint(labels)
    scores = StudentScores(student, protocol.record, drawn, temperature, before, worse, at_chance, files)
    if out is not None:
        with output_file(Path(out)) as file:
            file.write_text(scores.to_json(), encoding="utf-8")
    if answers is not None:
        logits = predictions.logits["student"] / (temperature or 1)
        table = answer_table(logits, labels, read_card(run).class_names, predictions.files)
        with output_file(Path(answers)) as file:
            file.write_text(as_csv(table), encoding="utf-8")
    return scores


def check_answers(answers: Path, out: Path | None, protocol: Protocol) -> None:
    """Raise UserError where a table of answers cannot be had, is not to be CSV, or would be where the scores are."""
    if protocol.judged != "logits":
        raise UserError(f"answers are classes of single images, which the protocol '{protocol.name}' does not judge")
    if answers.suffix != ".csv":
        raise UserError(f"answers is '{answers}'; give a file that ends in .csv")
    if out is not None and Path(out) == answers:
        raise UserError(f"out and answers are both '{answers}': give each a file of its own")


def fitted_in_card(run: str | Path, of_validation: Callable[[], Predictions]) -> float:
    """Return the temperature in a student's card; where there is none, fit it on validation and put it there."""
    card = read_card(run)
    if card.temperature is None:
        require_writable(Path(run) / CARD)  # before it is worked out
        with say(notes=False):  # they are said of the images that are scored
            found = of_validation()
        card = replace(card, temperature=fitted_temperature(found.logits["student"], found.labels))
        write_card(run, card)
    return temperature_in(card, run)


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
    corruptions: bool = False,
    network: nn.Module | None = None,
    trust_code: bool = False,
) -> Predictions:
    """Return what a task judges of the student on a split, as "student"; arguments and errors as in ``evaluate``.

    With corruptions the same of corrupted images stands beside it, as "jpeg/3".
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if on_bad_image is not None:
        check_choice("on_bad_image", on_bad_image, ("error", "skip"))
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give 1 or more")
    student, card = load_judged(run, network, task, trust_code=trust_code)
    device, settings = device_for(accelerator), settings_of(Path(run))
    images = load_as_trained(Path(run), settings, card, data, data_dir, label, split, image_size, on_bad_image, task)
    if image_size is not None:
        width_of(student, (images.channels, image_size, image_size))
    for text in images.notes:
        note(text)
    task.check_judged(images.test, f"the {split} images of '{images.name}'")
    predictor = task.protocol.predictor(student.to(device))

    def predict(batch: Tensor) -> tuple[dict[str, Tensor], None]:
        worse = corrupted(batch, images.mean, images.std) if corruptions else ()
        return {"student": predictor(batch), **{name: predictor(each) for name, each in worse}}, None

    batch_size = batch_size or settings["batch_size"]
    batches = eval_loader(images, images.test, batch_size, num_workers=num_workers, device=device)
    predictions = collect(predict, batches, description=split)
    for name, found in predictions.logits.items():
        require_finite(found, "images" if name == "student" else f"images made worse by {name}")
    return replace(predictions, split=images.test)


def judging_task(run: Path, task: TaskLike | None, *, trust_code: bool) -> Task:
    """Return the task by which a student is judged: the one given, else the run's own.

    Raises:
        UserError: options are given that are for training alone, or the run's own task is code that is not trusted.
    """
    if task is None:
        return stored_task(run, trust_code=trust_code)
    spec = TaskSpec.of(task)
    made = task_of(task)
    chosen = () if spec is None or isinstance(task, Task) else spec.chosen or ()
    if idle := [name for name in chosen if name in made.training_options]:
        raise UserError(f"task.{idle[0]} is for training: it changes nothing here; leave it out")
    return made


def load_judged(
    run: str | Path, network: nn.Module | None, task: Task, *, trust_code: bool
) -> tuple[nn.Module, StudentCard]:
    """Load a run's student so that it returns what the task judges; UserError where it cannot."""
    if task.output == "embedding":
        return load_embedder(run, network, trust_code=trust_code)
    student, card = load_student(run, network, trust_code=trust_code)
    if card.output != task.output:
        raise UserError(
            f"the student in '{run}' returns embeddings and has no classifier: judge it with --task few_shot"
        )
    return student, card


OF_IMAGES: dict[str, Any] = {
    "data": str | None,
    "data_dir": str | None,
    "label": str | None,
    "image_size": int | None,
    "val_fraction": float | int,
    "train_size": int | None,
    "seed": int,
    "on_bad_image": str,
    "batch_size": int,
}
"""The settings of a run that say which images it had, and what each can be."""


def settings_of(run: Path) -> dict[str, Any]:
    """Read what the run's config.yaml says of its data and batches; UserError where that is missing or damaged."""
    path = run / "config.yaml"
    try:
        settings = read_yaml(path, "settings")
        found = {name: settings[name] for name in OF_IMAGES}
        for name, kinds in OF_IMAGES.items():
            if not isinstance(found[name], kinds):
                raise TypeError(f"{name} is {found[name]!r}")
        return found
    except (UserError, TypeError, KeyError) as error:
        raise UserError(f"'{path}' is missing or damaged ({error}): give the folder of a finished run") from error
