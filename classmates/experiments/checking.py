"""The set-up of every run, made once on its real data before the first run starts, so that errors are found there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from classmates._progress import note
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.evaluation.predict import device_for
from classmates.runs.plain_values import plain_value
from classmates.training.beginning import prepare_images
from classmates.training.config import RunConfig, TrainConfig, describe_method
from classmates.training.settling import settle
from classmates.training.setup import build_method, load_images, training_module

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


@dataclass(frozen=True)
class Trial:
    """A row with a model and a data set, and the configuration of its runs."""

    row: str
    model: str
    data: str
    config: TrainConfig

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


def check_trials(trials: Sequence[Trial]) -> list[RunConfig]:
    """Settle what each trial leaves open, and build every distinct method, optimiser and schedule once, on the CPU.

    What loading the images had to decide is said.

    Returns:
        The settled configuration of each trial.

    Raises:
        UserError: some cannot work; the message names each with its row, model and data, and says why.
    """
    settled: dict[int, RunConfig] = {}
    notes: list[str] = []
    with torch.random.fork_rng(devices=[]):
        errors = {id(trial): str(error) for trial, error in failing(trials, settled, notes)}
    for text in notes:
        note(text)
    places: dict[str, list[str]] = {}
    for trial in trials:
        if id(trial) in errors:
            place = f"row '{trial.row}' with model '{trial.model}' on '{trial.data}'"
            places.setdefault(errors[id(trial)], []).append(place)
    told = [f"{', '.join(where)}: {why}" for why, where in places.items()]
    if len(told) > 1:
        told = ["\n  ".join([f"{len(errors)} rows cannot work:", *told])]
    if told:
        raise UserError(told[0])
    return [settled[id(trial)] for trial in trials]


def failing(
    trials: Sequence[Trial], settled: dict[int, RunConfig], notes: list[str]
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
        for trial in of_data:
            try:
                settled[id(trial)], _ = settle(trial.config, images)
            except UserError as error:
                yield trial, error
        ready = [trial for trial in of_data if id(trial) in settled]
        for alike in grouped(ready, [method_key(settled[id(trial)]) for trial in ready]):
            yield from failing_on(images, [(trial, settled[id(trial)]) for trial in alike])


def failing_on(images: ImageData, alike: Sequence[tuple[Trial, RunConfig]]) -> Iterator[tuple[Trial, UserError]]:
    """Yield the same among trials of one method on one data set."""
    first = alike[0][1]
    try:
        method, _ = build_method(first, prepare_images(first, images))
    except UserError as error:
        yield from ((trial, error) for trial, _ in alike)
        return
    for trial, config in alike:
        try:
            device_for(config.accelerator)
            method.check_length(config.epochs)
            training_module(config, method, images)
        except UserError as error:
            yield trial, error


def grouped(trials: Iterable[Trial], keys: Iterable[str]) -> list[list[Trial]]:
    """Return the trials with equal keys together, in the order of their first ones."""
    groups: dict[str, list[Trial]] = {}
    for trial, key in zip(trials, keys, strict=True):
        groups.setdefault(key, []).append(trial)
    return [*groups.values()]
