"""What fine-tuning asks for: averages of weights, first stages that stay as they are, new parts that learn faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from classmates.data.batches.randomness import stream_seed
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.networks.peers.branches import finished_by
from classmates.networks.peers.peers import Peers
from classmates.training.module import TrainingModule, seed_everywhere

AVERAGE = "average"
"""The key of a checkpoint under which the averaged weights are, by their names in the method."""


class WeightAverage(Callback):
    """Keep an exponential moving average of every network's weights and BatchNorm statistics.

    Also of what else of the method learns, such as exits, which are scored and deployed with them. The average is
    what validation scores and, when training ends, what all of it becomes. The decay grows with the number n of
    steps, min(decay, (1 + n) / (10 + n)), so that a short training does not end where it began. The average and n
    begin anew where the networks do (``Method.generation``).

    Args:
        decay: of the average, a step; above 0 and below 1.

    Raises:
        UserError: another decay.
    """

    def __init__(self, decay: float):
        if not 0 < decay < 1:
            raise UserError(f"ema={decay}: the decay of an average lies between 0 and 1, such as 0.999")
        self.decay = decay
        self.steps = self.first = self.generation = 0
        self.average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        state = _method(module).state_dict()
        begun = self.average or {name: state[name] for name in averaged(_method(module))}
        self.average = {name: value.to(state[name].device, copy=True) for name, value in begun.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        if trainer.global_step == self.steps:  # gradients are accumulated: no step yet
            return
        self.steps = trainer.global_step
        current, generation = self._current(module), _method(module).generation
        if generation != self.generation:
            self.generation, self.first = generation, self.steps
            self.average = {name: value.clone() for name, value in current.items()}
        count = self.steps - self.first
        decay = min(self.decay, (1 + count) / (10 + count))
        floats = [name for name, value in current.items() if value.is_floating_point()]
        update = get_ema_multi_avg_fn(decay)
        update([self.average[name] for name in floats], [current[name] for name in floats], None)
        for name in current.keys() - set(floats):
            self.average[name].copy_(current[name])

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._exchange(module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._exchange(module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._exchange(module)

    @torch.no_grad()
    def _exchange(self, module: L.LightningModule) -> None:
        """Let the weights and their average change places; all at once, as a tensor may have two names."""
        current = self._current(module)
        kept = {name: value.clone() for name, value in current.items()}
        for name, value in current.items():
            value.copy_(self.average[name])
        self.average = kept

    def _current(self, module: L.LightningModule) -> dict[str, Tensor]:
        state = _method(module).state_dict()
        return {name: state[name] for name in self.average}

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[AVERAGE] = self.average

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.average = dict(checkpoint[AVERAGE])
        if unknown := next(iter(self.average.keys() - _method(module).state_dict().keys()), None):
            raise UserError(
                f"ema: the checkpoint has an average of '{unknown}', which the method does not have; go on with the "
                "version of classmates that began this run, or begin it anew in another folder"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "first": self.first, "generation": self.generation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        self.first, self.generation = state.get("first", 0), state.get("generation", 0)


def _method(module: L.LightningModule) -> Method:
    assert isinstance(module, TrainingModule)
    return module.method


def _networks(module: L.LightningModule) -> Peers:
    return _method(module).networks


def averaged(method: Method) -> list[str]:
    """Return the names of what is averaged: all of the networks, and of every other part with weights that learn.

    Banks have no weights; those of teachers, and of means of networks, do not learn.
    """
    learning = {
        place
        for place, part in method.named_modules()
        if any(weight.requires_grad for weight in part.parameters(recurse=False))
    }
    return [
        name for name in method.state_dict() if name.startswith("networks.") or name.rpartition(".")[0] in learning
    ]


class PeerAverage(Callback):
    """Put the average of all peers' weights in the student's place, for validation and when training ends.

    While training goes on, it is validated with the mean of the peers' BatchNorm statistics, which costs nothing.
    """

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        _networks(module).put_average()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        _networks(module).put_back()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        deploy_average(module, trainer.current_epoch - 1, module.device)


def deploy_average(module: TrainingModule, epoch: int, device: torch.device) -> None:
    """Put the average of all peers in the student's place, with BatchNorm statistics of its own.

    Peers see different images, so that the mean of their statistics is none of the average network's: they are
    measured anew, over the training images of an epoch. The networks are on the device, in training mode. Stages that
    were frozen in that epoch keep theirs.
    """
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FrozenStages):
            callback.set_mode(epoch)
    module.method.networks.put_average()
    # The same whole pass as in a run that goes on from the checkpoint after that epoch.
    module.train_loader.set_epoch(epoch)
    module.train_loader.load_state_dict({"given": 0})
    seed_everywhere(stream_seed("statistics", module.seed, module.global_rank), device)
    with module.trainer.precision_plugin.forward_context():
        measure_statistics(module.method.networks.student, (batch.images.to(device) for batch in module.train_loader))


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the statistics of every BatchNorm in training mode by their means over batches; frozen ones stay.

    batches: of images, on the network's device.
    """
    momenta = {one: one.momentum for one in network.modules() if isinstance(one, _BatchNorm) and one.training}
    for one in momenta:
        one.reset_running_stats()
        one.momentum = None
    for images in batches:
        network(images)
    for one, momentum in momenta.items():
        one.momentum = momentum


class FrozenStages(Callback):
    """Keep every network's first stages as they are, BatchNorm statistics included, for some epochs.

    Args:
        method: whose networks they are.
        stages: how many of the student's stages.
        epochs: for how many epochs from the first; None for all.

    Raises:
        UserError: fewer than 1 stage or epoch, or so many stages that nothing but the classifier would learn.
    """

    def __init__(self, method: Method, stages: int, epochs: int | None = None):
        count = len(method.networks.architecture.stages)
        if not 1 <= stages < count:
            raise UserError(
                f"freeze_stages={stages}: the student has {count} stages; freeze 1 to {count - 1} of them, or leave "
                "freeze_stages out"
            )
        if epochs is not None and epochs < 1:
            raise UserError(f"freeze_epochs={epochs}: give 1 or more, or leave it out to freeze to the end")
        self.epochs = epochs
        self.modules = list(_first_stages(method, stages))
        # Not those that their owner has frozen: they are not to learn later either.
        self.frozen = {one for module in self.modules for one in module.parameters() if one.requires_grad}

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        if self.epochs is None:  # processes then do not wait for gradients that never come
            self._set(0)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._set(trainer.current_epoch)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._set(trainer.current_epoch)  # of a run that goes on in the middle of an epoch, no epoch starts

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._set(trainer.current_epoch)  # Lightning has put everything back into training mode

    def learns(self, epoch: int) -> bool:
        """Return whether the stages learn in an epoch, from 0."""
        return self.epochs is not None and epoch >= self.epochs

    def set_mode(self, epoch: int) -> None:
        """Put the stages into the mode that they have in an epoch."""
        for part in self.modules:
            part.train(self.learns(epoch))

    def _set(self, epoch: int) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(self.learns(epoch))
        self.set_mode(epoch)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(True)


def _first_stages(method: Method, stages: int) -> Iterator[nn.Module]:
    """Return every network's own modules that end with its first stages; a branch has none of those it shares."""
    networks = method.networks
    for network, architecture in zip(networks.networks, networks.architectures, strict=True):
        for name in finished_by(architecture.calls, architecture.stages[stages - 1].name):
            yield network.get_submodule(name)


def new_parts(method: Method) -> list[nn.Parameter]:
    """Return the parameters that no given weights have: classifiers, and what the method adds to its networks."""
    networks = method.networks
    heads = [
        parameter
        for network, architecture in zip(networks.networks, networks.architectures, strict=True)
        for parameter in network.get_submodule(architecture.classifier).parameters()
    ]
    of_networks = {id(parameter) for parameter in networks.parameters()}
    return [*heads, *(parameter for parameter in method.parameters() if id(parameter) not in of_networks)]
