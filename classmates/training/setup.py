"""The four steps that set a run up, from its configuration: data, method, optimisation, trainer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from classmates._own_code import code_hash, is_file_name
from classmates.contracts import DataSpec
from classmates.data.batches.loaders import eval_loader, train_loader, varies
from classmates.data.batches.mixing import mix
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Balanced
from classmates.data.loading import load
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.methods.mixing import check_mixing
from classmates.runs.folder import RunFolder, run_name
from classmates.runs.student import StudentCard
from classmates.training.acceleration import FORMATS, choose
from classmates.training.beginning import begin_network
from classmates.training.callbacks import Notes, watchers
from classmates.training.checkpoints import AtomicCheckpointIO
from classmates.training.config import RunConfig, TrainConfig, describe_method
from classmates.training.divergence import check_rate
from classmates.training.finetuning import FrozenStages, PeerAverage, WeightAverage, new_parts
from classmates.training.graphed_steps import GraphedSteps, against_graphs
from classmates.training.loggers import make_loggers
from classmates.training.module import TrainingModule
from classmates.training.optimisation import (
    Parameters,
    faster_groups,
    layer_groups,
    make_optimizer,
    make_schedule,
    make_warmup,
)
from classmates.training.ranks import agreed, allow_missing_gradients, check_strategy, some_pause
from classmates.training.rehearsal import rehearse
from classmates.training.same_code import SameCode
from classmates.training.same_images import SameImages
from classmates.training.step_graph import How

REFUSALS = (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException)
"""What Lightning raises for a setting that cannot work."""


def load_images(config: TrainConfig) -> ImageData:
    """Load the data set and split it, into parts of the same classes or of different ones, as the task needs."""
    return load(
        config.data,
        classes=config.made_task.classes,
        data_dir=config.data_dir,
        label=config.label,
        image_size=config.image_size,
        train_size=config.train_size,
        val_fraction=config.val_fraction,
        seed=config.seed,
        on_bad_image=config.on_bad_image,
    )


def build_method(config: RunConfig, images: ImageData) -> tuple[Method, list[str]]:
    """Build the network and, around it, the method, with notes on what had to be decided.

    Raises:
        UserError: a network, weights, a method or options of it that do not work with these data.
    """
    network, notes = begin_network(config, images)
    task = config.made_task
    if config.class_weights == "balanced":
        task = task.balanced(images.train.labels, images.class_names)
    task.check_data(images)
    spec = DataSpec(
        images.num_classes,
        images.train.labels,
        images.input_shape,
        images.mean,
        images.std,
        augmented=varies(images, config.augmentation),
        task=task,
        class_names=images.class_names,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the method notes is said with the data's notes
        built = config.makes_method(network, spec)
    built.check_peers_differ()
    check_mixing(built, config.augmentation)
    if config.step == "compile":
        built.networks.compile_parts()
    built.networks.recompute_parts(config.recompute)
    if config.begins_from_weights and len(built.networks) > 1 and built.networks.start == "fresh":
        raise UserError(
            "fresh peers would not begin from the given weights: say --method.start same, or --pretrained false"
        )
    return built, [*notes, *built.notes, *built.check_length(config.epochs)]


def accelerate(config: RunConfig, method: Method, images: ImageData) -> tuple[RunConfig, list[str]]:
    """Settle precision and memory format where they are "auto", with a note; a resumed run keeps what it had."""
    precision, memory_format = config.precision, config.memory_format
    stored = config.stored(type(method).__name__)
    precision = stored.get("precision", precision) if precision == "auto" else precision
    memory_format = stored.get("memory_format", memory_format) if memory_format == "auto" else memory_format
    student = method.networks.student
    batch_size = max(1, min(config.batch_size, len(images.train)) // config.processes)
    measured = (precision, memory_format, config.accelerator, student, images.input_shape, batch_size, config.devices)
    chosen = agreed(lambda: choose(*measured))
    return replace(config, precision=chosen.precision, memory_format=chosen.memory_format), chosen.notes


def training_module(config: RunConfig, method: Method, images: ImageData) -> tuple[TrainingModule, list[str]]:
    """Make what Lightning trains: the method with its optimiser, schedule and loaders, with notes on them.

    Raises:
        UserError: a batch size, names, arguments and values of optimiser and schedule that cannot work, or no
            validation images where some are needed.
    """
    if config.patience is not None and images.val is None:
        raise UserError(f"patience={config.patience}: there are no validation images to stop by: give a val_fraction")
    if config.keep == "best" and images.val is None:
        raise UserError("keep='best': there are no validation images to choose an epoch by: give a val_fraction")
    sampler = sampler_of(config, method, images, world_size=config.processes)
    # Lightning cannot clip the gradients of a fused step that also undoes the scaling of float16; and a fused step
    # cannot take parameters that have learnt beside others that begin to.
    clipped = config.gradient_clip is not None and config.precision in ("16-mixed", "16")
    fused = not clipped and config.freeze_epochs is None and not some_pause(method, config.epochs)
    steps_per_epoch = math.ceil(len(sampler) / config.accumulate)

    def optimizer_of(parameters: Parameters) -> Optimizer:
        return make_optimizer(config.optimizer, parameters, config.lr, dict(config.optimizer_args or {}), fused=fused)

    def optimizer() -> Optimizer:
        parameters: Parameters = method.parameters()
        if config.layer_decay is not None:
            parameters = layer_groups(method.networks, method.parameters(), config.lr, config.layer_decay)
        if config.new_parts_lr != 1:
            groups = parameters if isinstance(parameters, list) else [{"params": [*parameters], "lr": config.lr}]
            parameters = faster_groups(groups, new_parts(method), config.new_parts_lr)
        return optimizer_of(parameters)

    def schedules(made: Optimizer) -> list[tuple[LRScheduler, str]]:
        arguments = dict(config.schedule_args or {})
        whole = make_schedule(config.schedule, made, arguments, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
        warm = round(config.warmup_epochs * steps_per_epoch)
        return [whole, *([(make_warmup(config.schedule, made, warm, steps_per_epoch), "step")] if warm else [])]

    # So that what cannot work is told before anything is written.
    tried = optimizer()
    schedules(tried)
    lengths = {"epoch": config.epochs, "step": config.epochs * steps_per_epoch}
    rehearse(optimizer_of, schedules, name=config.optimizer, schedule=config.schedule, lengths=lengths)
    notes = check_rate(tried)
    if config.batch_size > (images_an_epoch := sampler.positions):
        notes.append(f"batch_size {config.batch_size}, but an epoch has {images_an_epoch} images: they are one step")

    def loaders(rank: int, world_size: int, device: torch.device) -> tuple[Any, Any]:
        shard = sampler_of(config, method, images, rank=rank, world_size=world_size)
        how: Any = {"num_workers": config.num_workers, "device": device}
        how["memory_format"] = FORMATS[config.memory_format]
        training = train_loader(images, shard, config.augmentation, seed=config.seed, views=method.views, **how)
        return training, None if images.val is None else eval_loader(images, images.val, config.batch_size, **how)

    def graphs(trainer: L.Trainer) -> GraphedSteps | None:
        if config.step not in ("auto", "graph") or against_graphs(trainer):
            return None
        how = How(trainer.precision_plugin.train_step_context, config.gradient_clip)
        return GraphedSteps(method, trainer.optimizers[0], how, faster=config.step == "auto")

    mixed = partial(mix, num_classes=images.num_classes, augmentation=config.augmentation)
    return TrainingModule(method, optimizer, schedules, loaders, config.seed, mixed, graphs), notes


def sampler_of(
    config: RunConfig, method: Method, images: ImageData, *, rank: int = 0, world_size: int = 1
) -> EpochSampler:
    """Return the sampler of the training batches, or of one process's part of them; errors as ``EpochSampler``."""
    sampling = Balanced(method.sampling) if config.balanced_sampling else method.sampling
    labels = images.train.labels
    return EpochSampler(sampling, labels, config.batch_size, seed=config.seed, rank=rank, world_size=world_size)


def make_trainer(
    config: RunConfig,
    run: RunFolder,
    module: TrainingModule,
    processes: Mapping[str, Any],
    images: ImageData,
    notes: Sequence[str],
) -> L.Trainer:
    """Make Lightning's trainer, of these ``processes``, with all that watches the run and keeps its ``notes``.

    Raises:
        UserError: hardware, precision, loggers or a time limit that cannot work, or a batch that the processes cannot
            share.
    """
    loggers = make_loggers(config.loggers, run.folder, run.name)
    same_images, same_code = SameImages(images), SameCode(run.settings)
    try:
        watching = watchers(
            run,
            module.protocol,
            validates=images.val is not None,
            checkpoint_steps=config.checkpoint_steps,
            max_time=config.max_time,
            patience=config.patience,
        )
        trainer = L.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            **{**processes, "plugins": [AtomicCheckpointIO(), *processes["plugins"]]},
            precision=config.precision,  # type: ignore[arg-type]
            gradient_clip_val=config.gradient_clip,
            deterministic=config.deterministic,
            logger=loggers,
            callbacks=[
                same_images,
                same_code,
                Notes(notes),
                *fine_tuning(config, module),
                *watching,
                *config.callbacks,
            ],
            accumulate_grad_batches=config.accumulate,
            default_root_dir=run.folder,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if images.val is not None else 0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except UserError:
        raise
    except REFUSALS as error:  # which names the setting
        raise UserError(f"accelerator, devices, strategy, precision or max_time: {error}") from error
    check_strategy(trainer, config)
    sampler_of(config, module.method, images, world_size=trainer.world_size)
    allow_missing_gradients(trainer, module.method, config)
    if config.step == "graph" and (why := against_graphs(trainer)):
        raise UserError(f"step='graph': {why}; say step='eager', or leave it out")
    return trainer


def fine_tuning(config: RunConfig, module: TrainingModule) -> Iterator[Callback]:
    """Yield the callbacks that fine-tuning asks for; they come before those that watch and write checkpoints."""
    if config.freeze_stages:
        yield FrozenStages(module.method, config.freeze_stages, config.freeze_epochs)
    if config.ema is not None and module.method.deploys_average:
        raise UserError(
            f"ema={config.ema}: this run averages its peers' weights already; leave ema out, or say "
            "--method.deploy student"
        )
    if config.ema is not None:
        yield WeightAverage(config.ema)
    if module.method.deploys_average:
        yield PeerAverage()


def run_folder(config: RunConfig, method: Method) -> RunFolder:
    """Return the run's folder with the settings that repeat it."""
    described = describe_method(config.method)
    if described is None:  # a function in Python, which no file can name
        described = {"class_path": f"<{type(method).__name__} made by a function>", "init_args": {}}
    method_name = type(method).__name__
    name = run_name(method_name, config.model, config.data, config.seed)
    return RunFolder(config.folder(method_name), config.plain(described), name)


def student_card(config: RunConfig, images: ImageData) -> StudentCard:
    """Make the card that says how to rebuild the student and to feed it."""
    return StudentCard(
        model=config.model if isinstance(config.model, str) else None,
        class_names=images.class_names,
        input_shape=images.input_shape,
        mean=images.mean,
        std=images.std,
        resize=images.resize,
        interpolation=images.interpolation,
        code=code_hash(config.model) if isinstance(config.model, str) and is_file_name(config.model) else None,
        output=config.made_task.output,
        model_args={"in_chans": images.channels, **(config.model_args or {})},
    )
