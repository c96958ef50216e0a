"""The main entry: from data, a network and a method to a trained student, its record and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from classmates._files import at_home
from classmates.data.augmentation import Augmentation
from classmates.methods.baseline import Baseline
from classmates.methods.spec import MethodLike
from classmates.networks.peers.peers import Recompute
from classmates.runs.record import Kept
from classmates.runs.task_spec import TaskLike
from classmates.tasks.classification import Classification
from classmates.training.acceleration import MemoryFormat
from classmates.training.config import ClassWeights, Place, TrainConfig
from classmates.training.graphed_steps import StepKind
from classmates.training.on_ray import train_on_ray
from classmates.training.result import Result
from classmates.training.run import train_configured


def train(
    data: str | Path | Dataset = "digits",
    model: str | nn.Module | None = None,
    method: MethodLike = Baseline,
    *,
    task: TaskLike = Classification,
    recipe: str = "auto",
    epochs: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    lr: float | None = None,
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
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Augmentation = Augmentation(),
    class_weights: ClassWeights = "none",
    balanced_sampling: bool = False,
    num_workers: int = 2,
    pretrained: bool | None = None,
    model_weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    stages: Sequence[str] | None = None,
    optimizer: str | None = None,
    optimizer_args: Mapping[str, Any] | None = None,
    schedule: str | None = None,
    schedule_args: Mapping[str, Any] | None = None,
    warmup_epochs: float | None = None,
    layer_decay: float | None = None,
    new_parts_lr: float = 1.0,
    accumulate: int = 1,
    ema: float | None = None,
    freeze_stages: int = 0,
    freeze_epochs: int | None = None,
    patience: int | None = None,
    keep: Kept = "last",
    gradient_clip: float | None = None,
    on: Place = "here",
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    precision: str = "auto",
    memory_format: MemoryFormat = "auto",
    step: StepKind = "auto",
    recompute: Recompute = "nothing",
    deterministic: bool = False,
    max_time: str | None = None,
    loggers: Sequence[Literal["tensorboard", "wandb"]] = (),
    test: bool = True,
    report: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Train a network on images with a method, test it once, and leave a folder with all results.

    A validation split is cut from the training images for whatever is watched during training. The test images are
    looked at once, after the last epoch; the headline is the student's accuracy then.

    Args:
        data: what to learn: a name ("classmates list datasets"), a folder with train/CLASS/* and perhaps val/ and
            test/, a folder of class folders, of parquet or of tar files, the address of such files (s3://...),
            hf:NAME or hf:NAME:CONFIG of the Hugging Face Hub, or a table (.csv, .tsv) of image files and labels. In
            Python any dataset of (image, label).
        model: which network: a name of timm's or of this package's ("classmates list models"), or FILE.py:CLASS
            for your own. In Python any nn.Module that returns logits.
        method: how it learns: Baseline, MCL, CORSD, or a Method of your own; its options follow with a dot, such as
            --method MCL --method.peers 2.
        task: what the labels teach and how networks are judged: classification, or few_shot, for new classes from a
            few images of each; its options follow with a dot, such as --task few_shot --task.shot 5.
        recipe: the settings that are used where none are given: "auto" chooses by the data and the weights at hand,
            among "photos-pretrained", "photos-scratch", "small-images" and "large"; "none" takes resnet8, 100 epochs
            and SGD whatever the data are. What is chosen is noted.
        epochs: how many times the training images are gone through.
        batch_size: images a step, over all devices; a multiple of three for methods that need triplets. "auto" takes
            the largest that fits into a GPU's memory, and a rate to match.
        lr: the learning rate at its highest; scale it with the batch size.
        seed: of the weights, the validation split, the order of the images and their augmentation.
        out: the run's folder; runs/METHOD-MODEL-DATA-SEED if not given. It must be empty or new.
        resume: go on with the run in that folder from its last checkpoint, with the same settings.
        checkpoint_steps: also keep the state every so many steps, so that a run stopped in the middle of an epoch
            goes on from there, exactly; otherwise it is kept after every epoch.
        data_dir: where the files of a data set known by name are, or are downloaded to; where the images of a table
            are, if not below its own folder.
        label: which labels, where the data have several: a column of a table such as "fine_label", or "coarse" of
            cifar100.
        image_size: pixels of the square that the network gets. If not given, the images' own where all have one size,
            up to 64 or square up to 224; else 32 or 64 for small ones, 128 or 224 for others.
        train_size: use only this many training images, the same share of every class.
        val_fraction: share of the training images that is held out for validation where the data have no such split;
            0 trains on all of them.
        on_bad_image: what to do about files that cannot be read: "error" names them, "skip" leaves them out and
            says which.
        mean: by which images are normalised, one number a channel, of pixel values in 0..1: (image − mean) / std; the
            training images' own, or those of the weights to begin with, if not given.
        std: the deviation by which they are normalised.
        augmentation: how training images are varied; padding of the random crop, mirroring.
        class_weights: "balanced" lets images of rare classes count for more in the labels' loss, so that all classes
            weigh alike.
        balanced_sampling: show images of every class equally often, rare ones several times an epoch.
        num_workers: processes that read images which do not fit in memory.
        pretrained: begin from timm's published weights, which it downloads, or do not. If not given, photos (above 64
            pixels, fewer than 100,000) begin from them where they can be reached. Of a network of your own, take it
            for one that comes trained.
        model_weights: begin from this file: safetensors or a state dict of the same architecture. Its classifier is
            left out where it is for another number of classes.
        model_args: further arguments of the model, such as --model_args.drop_path_rate 0.1.
        stages: names of the network's modules that end its stages, shallow to deep, where they are not found.
        optimizer: a class of torch.optim, or a name of timm's optimisers.
        optimizer_args: its arguments; for SGD momentum 0.9, Nesterov and weight decay 5e-4 are set beforehand.
        schedule: how the learning rate goes: a class of torch.optim.lr_scheduler. Lengths follow the run.
        schedule_args: its arguments, such as --schedule_args.milestones [150,225].
        warmup_epochs: epochs, or parts of one, over which the learning rate rises from nearly 0 at the beginning.
        layer_decay: each layer (as timm has them; of other networks each stage) learns at this factor times the rate
            of the layer after it, norms and biases without weight decay; 1 is the same rate for all; for pretrained
            networks, with AdamW, 0.65 to 0.9.
        new_parts_lr: factor on the rate of what no given weights have: classifiers, and what the method adds (peers'
            projections, CORSD's relation networks).
        accumulate: batches whose gradients make one step, for a batch larger than memory.
        ema: decay of an average of the weights over steps, such as 0.999, which is what is scored and deployed.
        freeze_stages: so many first stages stay as they are, their BatchNorm statistics too.
        freeze_epochs: for how many epochs; to the end if not given.
        patience: stop after so many epochs without a gain on validation images.
        keep: deploy and score the networks of the "last" epoch, or as they were after the one that was "best" for the
            student on validation images; the last epoch's scores then stand beside them.
        gradient_clip: largest norm of the gradient.
        on: "here", or "ray": over the machines of the Ray cluster that RAY_ADDRESS names, else of a local one, in
            --devices processes, which are replaced when they are lost; --out must be on a file system that all its
            machines share.
        accelerator: "cpu", "gpu", "mps" or whatever Lightning knows; "auto" takes the best there is.
        devices: how many of them, or which; "auto" for all of the machine. On Ray how many over all machines: GPUs,
            or cores where it has none.
        num_nodes: how many machines.
        strategy: how they work together, as Lightning names it ("ddp").
        precision: "32-true", "bf16-mixed" or "16-mixed"; "auto" times a few steps of the network and takes
            bf16-mixed where that is clearly faster, on devices that compute in it only.
        memory_format: how maps lie in memory, "contiguous" or "channels_last"; "auto" takes the faster one.
        step: how training steps run: "eager", an operation at a time; "graph", each as one CUDA graph, which on a GPU
            saves small networks most of their time; "compile", the networks by torch.compile, which takes minutes to
            begin; "auto" takes graphs where they prove to compute the same, and faster.
        recompute: run "shared" stages or "all" of them again in backward instead of keeping what they computed, which
            saves memory and takes time; BatchNorm's statistics stay as they would have been.
        deterministic: bit-for-bit the same on the same machine, also on a GPU, at some cost.
        max_time: stop at the end of the first epoch after this time ("2h", "1h30m", DD:HH:MM:SS); resume goes on.
        loggers: beside metrics.csv: "tensorboard", "wandb"; each needs the extra of its name.
        test: look at the test images after the last epoch; false leaves them for later.
        report: write report.html at the end; "classmates report FOLDER" writes it later.
        progress: show progress bars.
        callbacks: Lightning callbacks of your own (in Python).

    Returns:
        The trained student as a plain network, its test scores and the folder.

    Raises:
        UserError: anything in the arguments or the data that cannot work, before training starts.
        NonFiniteLoss: a term of the loss or a weight became NaN, infinite or larger than any that is of use.
        KeyboardInterrupt: SIGTERM, SIGHUP or Ctrl-C ended it; resume goes on.
    """
    config = TrainConfig(
        data=data,
        model=model,
        method=method,
        task=task,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        out=None if out is None else at_home(out),
        resume=resume,
        checkpoint_steps=checkpoint_steps,
        data_dir=data_dir,
        label=label,
        image_size=image_size,
        train_size=train_size,
        val_fraction=val_fraction,
        on_bad_image=on_bad_image,
        mean=mean,
        std=std,
        augmentation=augmentation,
        class_weights=class_weights,
        balanced_sampling=balanced_sampling,
        num_workers=num_workers,
        pretrained=pretrained,
        model_weights=model_weights,
        model_args=model_args,
        stages=stages,
        optimizer=optimizer,
        optimizer_args=optimizer_args,
        schedule=schedule,
        schedule_args=schedule_args,
        warmup_epochs=warmup_epochs,
        layer_decay=layer_decay,
        new_parts_lr=new_parts_lr,
        accumulate=accumulate,
        ema=ema,
        freeze_stages=freeze_stages,
        freeze_epochs=freeze_epochs,
        patience=patience,
        keep=keep,
        gradient_clip=gradient_clip,
        on=on,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        memory_format=memory_format,
        step=step,
        recompute=recompute,
        deterministic=deterministic,
        max_time=max_time,
        loggers=loggers,
        test=test,
        report=report,
        progress=progress,
        callbacks=callbacks,
    )
    return train_on_ray(config) if config.on == "ray" else train_configured(config)
