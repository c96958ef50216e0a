"""Any method as a LightningModule: steps, optimiser, validation; nothing here depends on the method or the task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loops.fit_loop import _FitLoop
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from classmates._signals import take_back
from classmates.contracts import Batch
from classmates.data.batches.randomness import stream_seed
from classmates.errors import NonFiniteLoss
from classmates.methods.base import Method, Output
from classmates.networks.building.weights import require_matching
from classmates.networks.memory.gather import local_buffers, own_state, whole_state
from classmates.tasks.protocol import Protocol
from classmates.training.divergence import check_weights
from classmates.training.faster_convolutions import faster_convolutions
from classmates.training.graphed_steps import GraphedSteps

CHECK_EVERY = 50  # steps between checks of losses and weights, which make the host wait for the device


class TermMeter:
    """Means of the raw terms over an epoch and the first step at which one was not finite, kept on the device."""

    def __init__(self) -> None:
        self.learning: set[str] = set()
        self.seen: set[str] = set()
        self.reset()

    @property
    def without_gradient(self) -> list[str]:
        """The terms that had no gradient at any step."""
        return sorted(self.seen - self.learning)

    def reset(self) -> None:
        self.names: list[str] = []
        self.sums = self.bad_since = torch.empty(0)
        self.steps = 0

    @torch.no_grad()
    def update(self, output: Output, step: int) -> None:
        values = torch.stack([*(term.detach().float() for term in output.terms.values()), output.total.detach()])
        self.seen |= output.terms.keys()
        self.learning |= {name for name, term in output.terms.items() if term.requires_grad}
        if not self.names:
            self.names = [*output.terms, "total"]
            self.sums = torch.zeros_like(values)
            self.bad_since = torch.full_like(values, -1)
        self.sums = self.sums.to(values.device) + values  # they come from a checkpoint on the CPU
        bad_since = self.bad_since.to(values.device)
        self.bad_since = torch.where(values.isfinite() | (bad_since >= 0), bad_since, step)
        self.steps += 1

    def check(self) -> None:
        """Raise NonFiniteLoss if a term was NaN or infinite at any step so far; waits for the device."""
        for name, step in zip(self.names, self.bad_since.tolist(), strict=True):
            if step >= 0:
                raise NonFiniteLoss(
                    f"the loss term '{name}' is not finite since step {int(step)}. Training stopped before a "
                    "checkpoint was made of it. A lower --lr, --gradient_clip 1 or --precision 32-true may help"
                )

    def means(self) -> dict[str, float]:
        return dict(zip(self.names, (self.sums / max(self.steps, 1)).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        state = {"names": self.names, "sums": self.sums, "bad_since": self.bad_since, "steps": self.steps}
        return state | {"seen": sorted(self.seen), "learning": sorted(self.learning)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.names, self.steps = list(state["names"]), state["steps"]
        self.sums, self.bad_since = state["sums"], state["bad_since"]
        self.seen, self.learning = (set(state.get(name, ())) for name in ("seen", "learning"))  # not in version 0.1


class TrainingModule(L.LightningModule):
    """A method in Lightning's loop, judged on validation images by the protocol of its task.

    Args:
        method: what is trained.
        optimizer: makes the optimiser.
        schedules: makes the schedules of an optimiser, each with what it counts in ("epoch" or "step").
        loaders: makes the training loader for (rank, world size, device), and the validation loader or None.
        seed: of the run; every step starts from a random state made of it, the step and the process, so that going on
            from a checkpoint needs no other.
        mix: makes the mixed images and their targets of each training batch; none if not given.
        graphs: makes what takes whole steps as CUDA graphs, or None where they are not to be, which is usual.
    """

    def __init__(
        self,
        method: Method,
        optimizer: Callable[[], Optimizer],
        schedules: Callable[[Optimizer], list[tuple[LRScheduler, str]]],
        loaders: Callable[[int, int, torch.device], tuple[Any, Any]],
        seed: int,
        mix: Callable[[Batch], Batch] | None = None,
        graphs: Callable[[L.Trainer], GraphedSteps | None] = lambda trainer: None,
    ):
        super().__init__()
        self.method = method
        self.make_optimizer = optimizer
        self.make_schedules = schedules
        self.make_loaders = loaders
        self.seed = seed
        self.mix = mix
        self.make_graphs = graphs
        self.graphs: GraphedSteps | None = None
        self.graphed = False  # whether the last step was a graph's, update included
        self.meter = TermMeter()
        self.protocol: Protocol = method.task.protocol
        self.scores: dict[str, torchmetrics.Metric] = {}
        self.validation: dict[str, dict[str, float]] = {}

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        return local_buffers(self)  # read by DistributedDataParallel, which wraps this module

    def setup(self, stage: str) -> None:
        self.train_loader, self.val_loader = self.make_loaders(self.global_rank, self.trainer.world_size, self.device)

    def train_dataloader(self) -> Any:
        return self.train_loader

    def val_dataloader(self) -> Any:
        return [] if self.val_loader is None else self.val_loader

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        schedules = self.make_schedules(optimizer)
        return [optimizer], [{"scheduler": schedule, "interval": interval} for schedule, interval in schedules]

    def on_train_start(self) -> None:
        take_back()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)  # which so far is that of timing and of trying batches
        self.graphs = self.make_graphs(self.trainer)
        self.trainer.should_stop |= stopped_early(self.trainer)  # before the checkpoint that the run goes on from

    def on_train_epoch_start(self) -> None:
        self.meter.reset()
        if self.graphs is not None:
            self.graphs.begin_epoch()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.method.epoch = self.current_epoch
        self.method.epochs = self.trainer.max_epochs or 1
        self.method.begins_step = batch_idx % self.trainer.accumulate_grad_batches == 0
        batches = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        seed_everywhere(stream_seed("step", self.seed, batches, self.global_rank), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.mix is not None:
            batch = self.mix(batch)
        whole = None if self.graphs is None else self.graphs(batch)
        self.graphed = whole is not None
        output = self.method(batch) if whole is None else whole
        self.meter.update(output, self.global_step)
        if batch_idx % CHECK_EVERY == CHECK_EVERY - 1:
            self.check()
        elif self.device.type == "cpu":
            self.meter.check()
        return output.total * self.share(batch_idx)

    def share(self, batch_idx: int) -> float:
        """Return what makes a step's gradient the mean over its batches.

        Lightning divides every loss by ``accumulate``, also in the last step of an epoch, which may have fewer.
        """
        accumulate, batches = self.trainer.accumulate_grad_batches, int(self.trainer.num_training_batches)
        return accumulate / min(accumulate, batches - batch_idx // accumulate * accumulate)

    def backward(self, loss: Tensor, *args: Any, **options: Any) -> None:
        """Take the backward pass, unless a graph has."""
        if not self.graphed:
            super().backward(loss, *args, **options)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Begin with no gradients, unless a graph has used them already."""
        if not self.graphed:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the step and update the weights, unless a graph has updated them with the step."""
        if self.graphs is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        loss = optimizer_closure()
        if not self.graphed:
            super().optimizer_step(epoch, batch_idx, optimizer, lambda: loss)

    def check(self) -> None:
        """Raise NonFiniteLoss if a loss or a weight says that training has diverged; waits for the device.

        Before every checkpoint, so that whatever is kept is good: the losses of a step say nothing of its update.
        """
        self.meter.check()
        statistics = dict(self.method.networks.named_buffers())
        check_weights(dict(self.method.named_parameters()), statistics, self.global_step)

    def on_train_epoch_end(self) -> None:
        self.check()

    def on_validation_epoch_start(self) -> None:
        self.check()
        for score in self.scores.values():
            score.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        outputs = self.method.networks.judged(batch.images)
        for who, predictions in self.protocol.predictions(self.method, outputs).items():
            if who not in self.scores:
                self.scores[who] = self.protocol.running().to(self.device)
            self.scores[who].update(predictions, batch.labels)

    def on_validation_epoch_end(self) -> None:
        self.validation = {who: score.compute() for who, score in self.scores.items()}
        chosen_by = self.protocol.choosing or self.protocol.headline
        self.log(self.protocol.monitored, self.validation["student"][chosen_by], rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        whole_state(self, checkpoint["state_dict"])
        checkpoint["terms"] = self.meter.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_matching(self, own_state(self, checkpoint["state_dict"]), "the checkpoint")
        self.meter.load_state_dict(checkpoint["terms"])


class EpochLoop(_FitLoop):
    """Lightning's loop over epochs, which begins and ends also where the checkpoint leaves none to train.

    Lightning's own returns at once there, and nothing is done of what callbacks do at the end of training.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer, trainer.min_epochs, trainer.max_epochs)
        self.epoch_loop = trainer.fit_loop.epoch_loop

    @property
    def skip(self) -> bool:
        return False


def stopped_early(trainer: L.Trainer) -> bool:
    """Return whether validation scores that no longer rose have ended the training."""
    return any(isinstance(one, EarlyStopping) and one.stopped_epoch for one in trainer.callbacks)  # type: ignore[attr-defined]


def fit(trainer: L.Trainer, module: TrainingModule, checkpoint: Path | None) -> None:
    """Train, from a checkpoint where one is given.

    Raises:
        KeyboardInterrupt: as Ctrl-C or a signal has raised it; Lightning makes an exit of it.
    """
    device = trainer.strategy.root_device.type
    trainer.fit_loop = EpochLoop(trainer)
    try:
        with faster_convolutions(module, device, str(trainer.precision)):
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise


def seed_everywhere(seed: int, device: torch.device) -> None:
    """Seed every global random state that a training step may draw from, its own or that of others' code.

    ``torch.manual_seed`` takes ten times as long where no GPU is in use, to note who has called it.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for code of others that draws from the global state
