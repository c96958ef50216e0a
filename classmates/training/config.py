"""Every argument of ``train`` as one typed value, checked for what cannot work whatever the data are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from classmates._memory import PROCESS, require_memory
from classmates._time_limit import time_limit
from classmates.contracts import DataSpec
from classmates.data.augmentation import Augmentation
from classmates.errors import UserError, check_choice, check_finite
from classmates.methods.base import Method
from classmates.methods.spec import MethodLike, MethodSpec, method_of
from classmates.networks.peers.peers import Recompute
from classmates.runs.folder import run_name, stored_settings
from classmates.runs.plain_values import plain_value
from classmates.runs.record import Kept
from classmates.runs.task_spec import TaskLike, TaskSpec, task_of
from classmates.tasks.task import Task
from classmates.training.acceleration import MemoryFormat, device_type
from classmates.training.graphed_steps import StepKind
from classmates.training.recipes import NAMES

ClassWeights = Literal["none", "balanced"]
Place = Literal["here", "ray"]
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")
"""Lightning's words for float32 weights; the last three are its short ones. Images and tests are in float32 too."""
FROM_DATA = {
    "num_classes": "the data say how many classes there are",
    "in_chans": "the images say how many channels they have",
    "pretrained": "it is an argument of its own, --pretrained",
}
"""What a network is built with beside ``model_args``, and where it comes from."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The arguments of ``train``, whose docstring says what each is and whose signature has the defaults.

    What is None was left open; ``recipes.settle`` makes a ``RunConfig`` of it.

    Raises:
        UserError: a value that cannot work with any data.
    """

    data: str | Path | Dataset
    model: str | nn.Module | None
    method: MethodLike
    task: TaskLike
    recipe: str
    epochs: int | None
    batch_size: int | Literal["auto"] | None
    lr: float | None
    seed: int
    out: str | Path | None
    resume: bool
    checkpoint_steps: int | None
    data_dir: str | Path | None
    label: str | None
    image_size: int | None
    train_size: int | None
    val_fraction: float
    on_bad_image: Literal["error", "skip"]
    mean: Sequence[float] | None
    std: Sequence[float] | None
    augmentation: Augmentation
    class_weights: ClassWeights
    balanced_sampling: bool
    num_workers: int
    pretrained: bool | None
    model_weights: str | Path | None
    model_args: Mapping[str, Any] | None
    stages: Sequence[str] | None
    optimizer: str | None
    optimizer_args: Mapping[str, Any] | None
    schedule: str | None
    schedule_args: Mapping[str, Any] | None
    warmup_epochs: float | None
    layer_decay: float | None
    new_parts_lr: float
    accumulate: int
    ema: float | None
    freeze_stages: int
    freeze_epochs: int | None
    patience: int | None
    keep: Kept
    gradient_clip: float | None
    on: Place
    accelerator: str
    devices: int | str
    num_nodes: int
    strategy: str
    precision: str
    memory_format: MemoryFormat
    step: StepKind
    recompute: Recompute
    deterministic: bool
    max_time: str | None
    loggers: Sequence[str]
    test: bool
    report: bool
    progress: bool
    callbacks: Sequence[Callback]

    def __post_init__(self) -> None:
        for entry in fields(self):
            check_finite(entry.name, getattr(self, entry.name))
        _ = self.made_task
        _ = self.makes_method
        check_choice("class_weights", self.class_weights, ClassWeights)
        check_choice("precision", str(self.precision), PRECISIONS)
        check_choice("recipe", self.recipe, ("auto", "none", *NAMES))
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs={self.epochs}: at least 1 is needed")
        if isinstance(self.batch_size, int) and self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size}: images a step, 1 or more, or auto")
        if self.lr is not None and not self.lr > 0:
            raise UserError(f"lr={self.lr}: nothing is learnt so: give a rate above 0, or leave it out")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed}: give a number from 0 to {2**32 - 1}")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise UserError(f"mean={self.mean}, std={self.std}: give both, each one number a channel, or neither")
        if self.std is not None and not (self.std and all(0 < value < math.inf for value in self.std)):
            raise UserError(f"std={self.std}: images are divided by them, so each must be above 0")
        if not all(math.isfinite(value) for value in self.mean or ()):
            raise UserError(f"mean={self.mean}: give numbers, of pixel values in 0..1")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise UserError(
                f"checkpoint_steps={self.checkpoint_steps}: give 1 or more, or none to keep whole epochs only"
            )
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError(f"gradient_clip={self.gradient_clip}: give a norm above 0, or none not to clip")
        longest = float("inf") if self.epochs is None else self.epochs
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < longest:
            raise UserError(
                f"warmup_epochs={self.warmup_epochs}: give 0 (none) or more, and fewer than epochs={self.epochs}"
            )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay={self.layer_decay}: give a factor above 0, at most 1, such as 0.75")
        if not self.new_parts_lr > 0:
            raise UserError(f"new_parts_lr={self.new_parts_lr}: give a factor above 0, such as 10")
        if self.new_parts_lr != 1 and self.pretrained is False and self.model_weights is None:
            raise UserError(
                f"new_parts_lr={self.new_parts_lr}: every part is new where training begins from scratch: leave it "
                "out, or give pretrained or model_weights"
            )
        check_choice("on", self.on, Place)
        if self.on == "ray":
            self._check_on_ray()
        elif isinstance(self.devices, int):
            require_memory(f"devices={self.devices}", "processes", self.devices * PROCESS)
        if self.max_time is not None:
            time_limit(self.max_time)
        if self.accumulate < 1:
            raise UserError(f"accumulate={self.accumulate}: batches a step, 1 or more")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience={self.patience}: epochs without a gain on validation, 1 or more")
        check_choice("keep", self.keep, Kept)
        if self.freeze_epochs is not None and not self.freeze_stages:
            raise UserError(f"freeze_epochs={self.freeze_epochs}: say which, with freeze_stages")
        check_choice("step", self.step, StepKind)
        if self.step == "compile" and self.recompute != "nothing":
            raise UserError(
                f"step='compile' and recompute='{self.recompute}' both change how the networks run: choose one"
            )
        if isinstance(self.model, nn.Module) and self.model_args:
            raise UserError(
                "model_args are for a model known by name, not for a network given as an object: build it with them"
            )

        if self.stages is not None and not self.stages:
            raise UserError("stages=[]: name one stage or more, or leave it out for the network's own")
        for name in FROM_DATA:
            if name in (self.model_args or {}):
                raise UserError(f"model_args: '{name}' is not the network's to be given: {FROM_DATA[name]}")

    @property
    def processes(self) -> int:
        """How many processes share each batch; 1 where ``devices`` is no word of Lightning's, which it will tell."""
        words = str(self.devices)
        if words in ("auto", "-1"):
            count = torch.cuda.device_count() if device_type(self.accelerator) == "cuda" else 1
        else:
            count = int(words) if words.isdecimal() else len([part for part in words.split(",") if part])
        return max(1, count) * self.num_nodes

    def _check_on_ray(self) -> None:
        """Raise UserError for what does not go with processes that Ray places."""
        if not str(self.devices).isdecimal() or int(self.devices) < 1:
            raise UserError(f"on=ray: devices={self.devices!r}: say how many processes, over all machines, such as 4")
        if self.num_nodes != 1:
            raise UserError(f"on=ray: num_nodes={self.num_nodes}: Ray chooses the machines; leave it out")
        if self.strategy not in ("auto", "ddp"):
            raise UserError(f"on=ray: strategy='{self.strategy}': its processes train by ddp; leave it out")
        if self.accelerator not in ("auto", "cpu", "gpu", "cuda"):
            raise UserError(f"on=ray: accelerator='{self.accelerator}': Ray hands out GPUs or cores; say gpu or cpu")
        if self.out is None:
            raise UserError(
                "on=ray: out: name the run's folder, on a file system that all machines of the cluster share"
            )

    def folder(self, method: str) -> Path:
        """Return the run's folder, ``out`` or one in runs/, given the name of its method's class."""
        return (
            Path("runs") / run_name(method, self.model, self.data, self.seed) if self.out is None else Path(self.out)
        )

    def stored(self, method: str) -> dict[str, Any]:
        """Return the settings of the run that goes on, given the name of its method's class; empty if one begins."""
        return stored_settings(self.folder(method)) if self.resume else {}

    @property
    def begins_from_weights(self) -> bool:
        """Return whether training begins from trained weights, published ones or those of a file."""
        return bool(self.pretrained) or self.model_weights is not None

    @property
    def makes_method(self) -> Callable[[nn.Module, DataSpec], Method]:
        """What makes the method of a network and a DataSpec; UserError where nothing does."""
        return method_of(self.method)

    @property
    def made_task(self) -> Task:
        """The task itself; UserError for one that cannot be made."""
        return task_of(self.task)

    def plain(self, method: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as YAML holds them and the command line reads them; callbacks are for Python alone.

        method: as ``describe_method`` gives it.
        """
        names = [field.name for field in fields(self) if field.name != "callbacks"]
        return {name: plain_value(getattr(self, name)) for name in names} | {
            "method": method,
            "task": self.plain_task,
        }

    @property
    def plain_task(self) -> dict[str, Any]:
        """The task with all its options as plain values."""
        spec = TaskSpec.of(self.made_task)
        assert spec is not None  # of a task there always is one
        return spec.plain()


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """The arguments of ``train`` with nothing left open."""

    model: str | nn.Module
    epochs: int
    batch_size: int
    lr: float
    pretrained: bool
    optimizer: str
    schedule: str
    warmup_epochs: float


def describe_method(given: MethodLike) -> dict[str, Any] | None:
    """Return a method with all its options as plain values; None for a function, which only Python knows."""
    spec = MethodSpec.of(given)
    return None if spec is None else spec.plain()
