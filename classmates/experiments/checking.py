"""The set-up of every run, made once on its real data before the first run starts, so that errors are found there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from classmates._files import at_home
from classmates._progress import note
from classmates.comparisons.recipe import Recipe
from classmates.comparisons.tables import check_scores
from classmates.data.batches.loaders import check_loading
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.evaluation.predict import device_for
from classmates.experiments.lengths import times_longer
from classmates.methods.base import Method
from classmates.runs.plain_values import plain_value
from classmates.training.beginning import prepare_images
from classmates.training.config import RunConfig, TrainConfig, describe_method
from classmates.training.settling import settle
from classmates.training.setup import build_method, fine_tuning, load_images, training_module

OF_DATA = (
    *("data", "data_dir", "label", "image_size", "train_size", "val_fraction", "seed", "on_bad_image"),
    *("augmentation", "class_weights", "balanced_sampling"),
)
OF_STEPS = (
    *("epochs", "batch_size", "lr", "optimizer", "optimizer_args", "schedule", "schedule_args", "gradient_clip"),
    *("warmup_epochs", "layer_decay", "new_parts_lr", "accumulate", "ema", "freeze_stages", "freeze_epochs"),
    *("patience", "recipe", "checkpoint_steps", "max_time", "loggers", "report", "progress", "callbacks"),
    *("out", "resume"),
)
"""Settings on which no network and no method depends."""
PREDICTED = {"peers": ("peer", "exit"), "ensemble": ("ensemble",)}
"""By whose figure stands in a table: how the names begin that methods have for whom it is of."""


@dataclass(frozen=True)
class Trial:
    """A row with a model and a data set, the configuration of its runs, and by how much they are longer than that."""

    row: str
    model: str
    data: str
    config: TrainConfig
    times: float = 1

    @property
    def data_key(self) -> str:
        """A key that is equal where the same images are loaded."""
        values = [plain_value(getattr(self.config, name)) for name in OF_DATA]
        return json.dumps([*values, self.config.made_task.classes])


def method_key(config: RunConfig) -> str:
    """Return a key that is equal where, on equal data, the same networks and method are built."""
    names = [entry.name for entry in fields(config) if entry.name not in (*OF_DATA, *OF_STEPS, "method", "task")]
    networks = {name: plain_value(getattr(config, name)) for name in names}
    return json.dumps([networks, describe_method(config.method), config.plain_task], sort_keys=True)


def check_trials(trials: Sequence[Trial], recipe: Recipe) -> list[RunConfig]:
    """Settle what each trial leaves open, and build every distinct method, optimiser and schedule once, on the CPU.

    What loading the images had to decide is said, and which figure they are not enough for.

    Args:
        trials: of all runs but for their seeds.
        recipe: whose rows they are; it says which figures there will be, and whose scores are in the table.

    Returns:
        The settled configuration of each trial.

    Raises:
        UserError: some cannot work; the message names each with its row, model and data, and says why.
    """
    settled: dict[int, RunConfig] = {}
    notes: list[str] = []
    with torch.random.fork_rng(devices=[]):
        errors = {id(trial): str(error) for trial, error in failing(trials, recipe, settled, notes)}
    for text in notes:
        note(text)
    told = []
    for why in dict.fromkeys(errors[id(trial)] for trial in trials if id(trial) in errors):
        places = places_of([trial for trial in trials if errors.get(id(trial)) == why], trials)
        told.append(f"{', '.join(places)}: {why}")
    if len(told) > 1:
        told = ["\n  ".join([f"{len(errors)} rows cannot work:", *told])]
    if told:
        raise UserError(told[0])
    for of_data in grouped(trials, [trial.data for trial in trials]):
        check_comparable(of_data)
    return [settled[id(trial)] for trial in trials]


def check_comparable(trials: Sequence[Trial]) -> None:
    """Raise UserError where the rows on a data set would not be judged on the same labels, or not in the same way."""
    judged: dict[str, Callable[[TrainConfig], Any]] = {
        "label": lambda config: config.label,
        "data_dir": lambda config: config.data_dir and os.path.realpath(at_home(config.data_dir)),
        "on_bad_image": lambda config: config.on_bad_image,
        "task": lambda config: config.made_task.protocol.record,
    }
    first = trials[0]
    for trial in trials[1:]:
        for name, value in judged.items():
            if value(trial.config) != value(first.config):
                raise UserError(
                    f"row '{trial.row}' has another {name} than row '{first.row}' on '{trial.data}': they would be "
                    "judged on other images or labels, or in another way, and do not compare"
                )


def places_of(some: Sequence[Trial], trials: Sequence[Trial]) -> list[str]:
    """Name the places of some of the trials: where they are several and all of a data set or model of it, that."""
    wholes: list[Callable[[Trial], str]] = [
        lambda trial: f"every row on '{trial.data}'",
        lambda trial: f"every row with model '{trial.model}' on '{trial.data}'",
    ]
    names = {id(trial): f"row '{trial.row}' with model '{trial.model}' on '{trial.data}'" for trial in some}
    for whole in reversed(wholes):  # the larger one last, whose name stays
        for together in grouped(trials, [whole(trial) for trial in trials]):
            if len(together) > 1 and all(id(trial) in names for trial in together):
                names |= {id(trial): whole(trial) for trial in together}
    return [*dict.fromkeys(names.values())]


def failing(
    trials: Sequence[Trial], recipe: Recipe, settled: dict[int, RunConfig], notes: list[str]
) -> Iterator[tuple[Trial, UserError]]:
    """Yield the trials that cannot work, and why; images and methods are made once for all that share them.

    settled: the configurations of those that can, by the trial's id, are put here. notes: what loading the images
    had to decide, each once, is put here.
    """
    for of_data in grouped(trials, [trial.data_key for trial in trials]):
        try:
            images = load_images(of_data[0].config)
        except UserError as error:
            yield from ((trial, error) for trial in of_data)
            continue
        notes += [text for text in images.notes if text not in notes]
        if images.val is None and "learning_curves" in recipe.figures:
            rows = ", ".join(dict.fromkeys(f"'{trial.row}'" for trial in of_data))
            notes.append(
                f"without validation images (val_fraction) the figure learning_curves is without {rows} on "
                f"'{of_data[0].data}'"
            )
        for trial in of_data:
            try:
                config, _ = settle(trial.config, images)
                settled[id(trial)] = times_longer(config, trial.times)
            except UserError as error:
                yield trial, error
        ready = [trial for trial in of_data if id(trial) in settled]
        for alike in grouped(ready, [method_key(settled[id(trial)]) for trial in ready]):
            yield from failing_on(images, recipe, [(trial, settled[id(trial)]) for trial in alike])


def failing_on(
    images: ImageData, recipe: Recipe, alike: Sequence[tuple[Trial, RunConfig]]
) -> Iterator[tuple[Trial, UserError]]:
    """Yield the same among trials of one method on one data set."""
    first = alike[0][1]
    try:
        prepared = prepare_images(first, images)
        method, _ = build_method(first, prepared)
        check_scores(recipe, method.task.protocol.record)
    except UserError as error:
        yield from ((trial, error) for trial, _ in alike)
        return
    for trial, config in alike:
        try:
            device_for(config.accelerator)
            method.check_length(config.epochs)
            check_loading(prepared, config.augmentation, config.num_workers)
            module, _ = training_module(config, method, images)
            tuple(fine_tuning(config, module))
            check_predicted(recipe.score_of(trial.row).who, method, prepared)
        except UserError as error:
            yield trial, error


def check_predicted(who: str, method: Method, images: ImageData) -> None:
    """Raise UserError where a table asks for the figure of whom a method does not score; it is asked on one image."""
    if who == "student":
        return
    method.networks.plain_forwards()  # one image is not worth compiling for
    with torch.no_grad():
        outputs = method.eval().networks(torch.zeros(1, *images.input_shape))
        predicted = method.task.protocol.predictions(method, outputs)
    if not any(name.startswith(PREDICTED[who]) for name in predicted):
        raise UserError(
            f"the table asks for the {who}, but of {type(method).__name__} there is only the "
            f"{' and the '.join(predicted)}: say who: student for this row, under 'scores' of the recipe"
        )


def grouped(trials: Iterable[Trial], keys: Iterable[str]) -> list[list[Trial]]:
    """Return the trials with equal keys together, in the order of their first ones."""
    groups: dict[str, list[Trial]] = {}
    for trial, key in zip(trials, keys, strict=True):
        groups.setdefault(key, []).append(trial)
    return [*groups.values()]
