"""The main entry: from data, a network and a method to a trained student, its record and its report."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from classmates.contracts import DataSpec
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import check_loading, eval_loader, train_loader, varies
from classmates.data.batches.samplers import EpochSampler
from classmates.data.loading import load
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.methods.baseline import Baseline
from classmates.methods.spec import MethodSpec
from classmates.networks.building.build import build_model
from classmates.networks.building.weights import load_pretrained
from classmates.networks.peers.peers import Recompute
from classmates.reporting.run_page import write_run_page
from classmates.runs.files import require_writable
from classmates.runs.folder import Run, plain_settings, run_name
from classmates.runs.student import StudentCard
from classmates.training.acceleration import FORMATS, MemoryFormat, choose
from classmates.training.callbacks import AtomicCheckpointIO, watchers
from classmates.training.loggers import make_loggers
from classmates.training.module import TrainingModule
from classmates.training.optimisation import make_optimizer, make_schedule
from classmates.training.result import Result, finish


def train(
    data: str | Path | Dataset = "digits",
    model: str | nn.Module = "resnet8",
    method: Callable[[nn.Module, DataSpec], Method] = Baseline,
    *,
    epochs: int = 100,
    batch_size: int = 96,
    lr: float = 0.05,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    checkpoint_steps: int | None = None,
    data_dir: str | Path | None = None,
    label: str | None = None,
    image_size: int | None = None,
    train_size: int | None = None,
    val_fraction: float = 0.1,
    on_bad_image: Literal["error", "skip"] = "error",
    augmentation: Augmentation = Augmentation(),
    num_workers: int = 2,
    pretrained: bool = False,
    model_weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    stages: Sequence[str] | None = None,
    optimizer: str = "SGD",
    optimizer_args: Mapping[str, Any] | None = None,
    schedule: str = "CosineAnnealingLR",
    schedule_args: Mapping[str, Any] | None = None,
    gradient_clip: float | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "auto",
    memory_format: MemoryFormat = "auto",
    compile: bool = False,
    recompute: Recompute = "nothing",
    deterministic: bool = False,
    max_time: str | None = None,
    loggers: Sequence[Literal["tensorboard", "wandb"]] = ("tensorboard",),
    report: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Trains a network on images with a method, tests it once, and leaves a folder with all that came out.

    A validation split is cut from the training images for whatever is watched during training. The test images are
    looked at once, after the last epoch; the headline is the student's accuracy then.

    Args:
        data: what to learn: a name ("classmates list datasets"), a folder with train/CLASS/* and perhaps val/ and
            test/, a folder of class folders or of parquet files, hf:NAME or hf:NAME:CONFIG of the Hugging Face Hub,
            or in Python any dataset of (image, label).
        model: which network: a name of timm's or of this package's ("classmates list models"), FILE.py:CLASS for
            your own, or in Python any nn.Module that returns logits.
        method: how it learns: Baseline, MCL, CORSD, or a Method of your own; its options follow with a dot, such as
            --method MCL --method.peers 2.
        epochs: how many times the training images are gone through.
        batch_size: images a step, over all devices; a multiple of three for methods that need triplets.
        lr: the learning rate at its highest; scale it with the batch size.
        seed: of the weights, the validation split, the order of the images and their augmentation.
        out: the run's folder; runs/METHOD-MODEL-DATA-SEED if not given. It must be empty or new.
        resume: go on with the run in that folder from its last checkpoint, with the same settings.
        checkpoint_steps: also keep the state every so many steps, so that a run stopped in the middle of an epoch
            goes on from there, exactly; otherwise it is kept after every epoch.
        data_dir: where the files of a data set known by name are, or are downloaded to.
        label: which labels, where the data have several: a column of a table such as "fine_label", or "coarse" of
            cifar100.
        image_size: pixels of the square that the network gets; as the images are, or 224 where they differ.
        train_size: use only this many training images, the same share of every class.
        val_fraction: share of the training images that is held out for validation where the data have no such split;
            0 trains on all of them.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out and
            says which.
        augmentation: how training images are varied; padding of the random crop, mirroring.
        num_workers: processes that read images which do not fit in memory.
        pretrained: begin from timm's published weights, which it downloads.
        model_weights: begin from this file: safetensors or a state dict of the same architecture. Its classifier is
            left out where it is for another number of classes.
        model_args: further arguments of the model, such as --model_args.drop_path_rate 0.1.
        stages: names of the network's modules that end its stages, shallow to deep, where they are not found.
        optimizer: a class of torch.optim, or a name of timm's optimisers.
        optimizer_args: its arguments; for SGD momentum 0.9, Nesterov and weight decay 5e-4 are set beforehand.
        schedule: how the learning rate goes: a class of torch.optim.lr_scheduler. Lengths follow the run.
        schedule_args: its arguments, such as --schedule_args.milestones [150,225].
        gradient_clip: largest norm of the gradient.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        devices: how many of them, or which.
        num_nodes: how many machines.
        strategy: how they work together, as Lightning names it ("ddp").
        precision: "32-true", "bf16-mixed" or "16-mixed"; "auto" takes bf16-mixed on devices that compute in it, and
            says so.
        memory_format: how maps lie in memory; "auto" takes channels_last where it pays.
        compile: torch.compile for the networks; worth it on GPUs, not on CPUs.
        recompute: run "shared" stages or "all" of them again in backward instead of keeping what they computed, which
            saves memory and takes time; BatchNorm's statistics stay as they would have been.
        deterministic: bit-for-bit the same on the same machine, also on a GPU, at some cost.
        max_time: stop at the end of the first epoch after DD:HH:MM:SS; the run can go on with resume.
        loggers: beside metrics.csv: "tensorboard", "wandb" (if installed), or [] for neither.
        report: write report.html at the end; "classmates report FOLDER" writes it later.
        progress: show progress bars.
        callbacks: Lightning callbacks of your own (in Python).

    Returns:
        The trained student as a plain network, its test scores and the folder.

    Raises:
        UserError: anything in the arguments or the data that cannot work, before training starts.
        NonFiniteLoss: a term of the loss became NaN or infinite.
    """
    settings = {name: value for name, value in locals().items() if name != "callbacks"}
    check_settings(settings)
    spec = MethodSpec.of(method)
    if first_process():
        require_writable(Path("runs" if out is None else out) / "config.yaml")
    L.seed_everything(seed, verbose=False)
    images = load(
        data,
        data_dir=data_dir,
        label=label,
        image_size=image_size,
        train_size=train_size,
        val_fraction=val_fraction,
        seed=seed,
        on_bad_image=on_bad_image,
    )
    acceleration = choose(precision, memory_format, accelerator, images.image_size)
    settings |= {"precision": acceleration.precision, "memory_format": acceleration.memory_format}
    model_args = dict(model_args or {})
    network = model
    if isinstance(network, str):
        network = build_model(network, images.num_classes, images.channels, pretrained, **model_args)
    if stages is not None:
        network.stage_names = tuple(stages)  # type: ignore[assignment]
    notes = [*images.notes, *check_loading(images, augmentation, num_workers), *acceleration.notes]
    if model_weights is not None:
        notes += load_pretrained(network, model_weights, images.input_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the method notes is said with the data's notes
        known = DataSpec(
            images.num_classes,
            images.train.labels,
            images.input_shape,
            images.mean,
            images.std,
            augmented=varies(images, augmentation),
        )
        built = (spec or method)(network, known)
    if compile:
        built.networks.compile_parts()
    built.networks.recompute_parts(recompute)
    if (pretrained or model_weights) and len(built.networks) > 1 and built.networks.start == "fresh":
        raise UserError("fresh peers would not begin from the given weights: say --method.start same")
    notes += [*built.notes, *built.check_length(epochs)]

    sampler = EpochSampler(built.sampling, images.train.labels, batch_size, seed=seed)
    # Lightning cannot clip the gradients of a fused step that also undoes the scaling of float16.
    fused = gradient_clip is None or acceleration.precision != "16-mixed"
    new_optimizer = partial(make_optimizer, optimizer, lr=lr, arguments=dict(optimizer_args or {}), fused=fused)
    new_schedule = partial(
        make_schedule, schedule, arguments=dict(schedule_args or {}), epochs=epochs, steps_per_epoch=len(sampler)
    )
    new_schedule(new_optimizer(built.parameters()))  # so that wrong arguments are told before anything is written

    def loaders(rank: int, world_size: int, device: torch.device) -> tuple[Any, Any]:
        labels = images.train.labels
        share = EpochSampler(built.sampling, labels, batch_size, seed=seed, rank=rank, world_size=world_size)
        how: Any = {"num_workers": num_workers, "device": device}
        how["memory_format"] = FORMATS[acceleration.memory_format]
        training = train_loader(images, share, augmentation, seed=seed, **how)
        return training, None if images.val is None else eval_loader(images, images.val, batch_size, **how)

    card = StudentCard(
        model=model if isinstance(model, str) else None,
        class_names=images.class_names,
        input_shape=images.input_shape,
        mean=images.mean,
        std=images.std,
        resize=images.resize,
        model_args={"in_chans": images.channels, **model_args},
    )
    name = run_name(built, model, data, seed)
    run = Run(Path(out) if out is not None else Path("runs") / name, plain_settings(built, settings))
    module = TrainingModule(built, new_optimizer, new_schedule, loaders, seed)
    made_loggers = make_loggers(loggers, run.folder, name)
    try:
        watching = watchers(
            run,
            validates=images.val is not None,
            progress=progress,
            checkpoint_steps=checkpoint_steps,
            max_time=max_time,
        )
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=acceleration.precision,  # type: ignore[arg-type]
            gradient_clip_val=gradient_clip,
            deterministic=deterministic,
            logger=made_loggers,
            callbacks=[*watching, *callbacks],
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run.folder,
            num_sanity_val_steps=0,
            limit_val_batches=0 if images.val is None else 1.0,
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:  # what it says names the setting
        raise UserError(f"accelerator, devices, strategy, precision or max_time: {error}") from error
    if first_process():
        run.check_resumable() if resume else run.begin()
    for note in notes:
        print(f"note: {note}")
    built.to(memory_format=FORMATS[acceleration.memory_format])
    trainer.fit(module, ckpt_path=run.last if resume else None, weights_only=True)
    built.networks.plain_forwards()
    built.to(memory_format=torch.contiguous_format)
    result = finish(run, name, trainer, module, images, card, notes, progress=progress)
    if report and trainer.is_global_zero:
        write_run_page(run.folder, run.folder / "report.html")
    return result


def check_settings(settings: Mapping[str, Any]) -> None:
    """UserError for what cannot work whatever the data are."""
    given = SimpleNamespace(**settings)
    if given.epochs < 1:
        raise UserError(f"epochs={given.epochs}: at least 1 is needed")
    if not 0 <= given.seed < 2**32:
        raise UserError(f"seed={given.seed}: give a number from 0 to {2**32 - 1}")
    if given.checkpoint_steps is not None and given.checkpoint_steps < 1:
        raise UserError(
            f"checkpoint_steps={given.checkpoint_steps}: give 1 or more, or none to keep whole epochs only"
        )
    if given.gradient_clip is not None and not given.gradient_clip > 0:
        raise UserError(f"gradient_clip={given.gradient_clip}: give a norm above 0, or none not to clip")
    if given.compile and given.recompute != "nothing":
        raise UserError(
            f"compile and recompute='{given.recompute}' both change how the networks run: choose one of them"
        )
    if isinstance(given.model, nn.Module) and (given.pretrained or given.model_args):
        raise UserError(
            "pretrained and model_args are for a model known by name, not for a network given as an object: "
            "build it with them, or give model_weights"
        )


def first_process() -> bool:
    """Whether this process is the only one or the first of a distributed run, before Lightning has joined them."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "RANK"))
