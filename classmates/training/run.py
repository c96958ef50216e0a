"""A run from its configuration to its result: the steps of ``setup.py``, the fit, and what is left on disk."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch

from classmates._files import require_writable
from classmates._memory import keep_freed_memory, told_of_full_memory
from classmates._progress import note, say, saying
from classmates._signals import ended_by_signals
from classmates.data.batches.loaders import check_loading
from classmates.errors import first_line
from classmates.reporting.model_card import write_model_card
from classmates.reporting.run_page import write_run_page
from classmates.runs.folder import check_empty
from classmates.training.acceleration import FORMATS
from classmates.training.batch_size import fill_memory
from classmates.training.beginning import prepare_images
from classmates.training.checkpoints import require_whole
from classmates.training.config import TrainConfig
from classmates.training.module import fit
from classmates.training.quiet import quiet_libraries
from classmates.training.ranks import as_configured, first_process, told_of_lost_ranks
from classmates.training.result import Result, finish
from classmates.training.settling import settle
from classmates.training.setup import (
    accelerate,
    build_method,
    load_images,
    make_trainer,
    run_folder,
    student_card,
    training_module,
)


@ended_by_signals()
@told_of_full_memory()
def train_configured(config: TrainConfig, processes: Mapping[str, Any] | None = None) -> Result:
    """Train as ``train`` does, from its arguments as one value.

    processes: what says to Lightning's trainer which processes there are; as the arguments have it if not given.
    """
    shown = first_process(config)
    with say(progress=config.progress and saying().progress, notes=shown and saying().notes), quiet_libraries():
        return run_configured(config, as_configured(config) if processes is None else processes)


def run_configured(config: TrainConfig, processes: Mapping[str, Any]) -> Result:
    """Do all of it, saying what is to be said."""
    if first_process(config):
        require_writable(Path("runs" if config.out is None else config.out) / "config.yaml")
        if config.out is not None and not config.resume:
            check_empty(Path(config.out))  # opening the folder will too, but many images may be read before
    keep_freed_memory()
    L.seed_everything(config.seed, verbose=False)
    images = load_images(config)
    run_config, notes = settle(config, images)
    images = prepare_images(run_config, images)
    notes = [*images.notes, *check_loading(images, config.augmentation, config.num_workers), *notes]
    built, notes_of_method = build_method(run_config, images)
    run_config, notes_of_speed = accelerate(run_config, built, images)
    notes += [*notes_of_method, *notes_of_speed]
    if config.batch_size == "auto":
        run_config, notes_of_size = fill_memory(run_config, built, images, scale_lr=config.lr is None)
        notes += notes_of_size
    module, notes_of_rate = training_module(run_config, built, images)
    notes += notes_of_rate
    run, card = run_folder(run_config, built), student_card(run_config, images)
    trainer = make_trainer(run_config, run, module, processes, images, notes)
    with run.opened(resume=config.resume) if first_process(config) else nullcontext():
        if config.resume:
            require_whole(run)
        for text in notes:
            note(text)
        built.to(memory_format=FORMATS[run_config.memory_format])
        with told_of_lost_ranks(trainer):
            fit(trainer, module, run.last if config.resume else None)
        built.networks.plain_forwards()
        built.to(memory_format=torch.contiguous_format)
        result = finish(run, trainer, module, images, card, test=config.test)
        if config.report and config.test and trainer.is_global_zero:
            write_report(run.folder)
        if trainer.is_global_zero:
            write_model_card(run.folder)
    return result


def write_report(folder: Path) -> None:
    """Write the run's page; where that fails, say how it is made later: the student and its result are there."""
    try:
        write_run_page(folder, folder / "report.html")
    except Exception as error:
        again = f"`classmates report {shlex.quote(str(folder))}` tries again"
        note(f"the report could not be written ({first_line(error)}); {again}")
