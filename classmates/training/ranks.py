"""The processes of one training: who they are, what is said when one of them is lost, and how they may be started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import distributed
from torch.distributed import DistError

from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.training.config import RunConfig, TrainConfig
from classmates.training.rank_watch import RankWatch

Value = TypeVar("Value")


class LostProcess(UserError):
    """Another process of the training has ended or hangs."""


@contextmanager
def told_of_lost_ranks(trainer: L.Trainer | None = None) -> Iterator[None]:
    """Say in a sentence which other process of the training has ended, in place of what its connection says.

    trainer: what makes the processes wait for each other; None while nobody trains yet, where it is not known which.

    Raises:
        LostProcess: while processes waited for each other, the connection to one of them broke or timed out.
    """
    watch = RankWatch()
    if trainer is not None:
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    try:
        yield
    except RuntimeError as error:
        # Gloo has no type of its own for its errors, which name its source files.
        if distributed.is_initialized() and (isinstance(error, DistError) or "gloo" in str(error).lower()):
            raise LostProcess(watch.told()) from error
        raise
    finally:
        watch.over.set()


def first_process(config: TrainConfig) -> bool:
    """Return whether this process is the only or the first one of a distributed run, before Lightning joins them.

    Where whatever started it says its rank (Ray, torchrun), that decides: Ray may itself be started by SLURM.
    """
    if runs_alone(config):
        return True
    names = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


def runs_alone(config: TrainConfig) -> bool:
    """Return whether a run is of one process, whatever else SLURM has started beside it, as other comparisons."""
    one = str(config.devices) == "1" and config.num_nodes == 1 and config.strategy == "auto"
    return one and "RANK" not in os.environ


def agreed(choose: Callable[[], Value]) -> Value:
    """Return what the first process chooses, in all processes that are joined by now, as Ray's are; else the choice.

    Raises:
        LostProcess: another process has ended meanwhile.
    """
    if not distributed.is_initialized():
        return choose()
    chosen = [choose() if distributed.get_rank() == 0 else None]
    with told_of_lost_ranks():
        distributed.broadcast_object_list(chosen)
    return chosen[0]  # type: ignore[return-value]


def as_configured(config: TrainConfig) -> dict[str, Any]:
    """Return what says to Lightning's trainer which processes there are, as the arguments of ``train`` have it."""
    plugins = [LightningEnvironment()] if runs_alone(config) else []
    return {"devices": config.devices, "num_nodes": config.num_nodes, "strategy": config.strategy, "plugins": plugins}


def check_strategy(trainer: L.Trainer, config: TrainConfig) -> None:
    """Check how the processes of a training are started, before they join.

    Raises:
        UserError: they are forked or spawned, and what they train is lost with them; whatever has started them
            (SLURM, torchrun) has started others than the arguments say.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            f"strategy '{config.strategy}' starts its processes by fork or spawn, from which no network comes back: "
            "take ddp; in a notebook devices=1, as only a script starts several"
        )
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    if cluster is not None:
        try:
            cluster.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
        except ValueError as error:
            raise UserError(f"devices={trainer.num_devices}, num_nodes={trainer.num_nodes}: {error}") from error


def allow_missing_gradients(trainer: L.Trainer, method: Method, config: RunConfig) -> None:
    """Let processes find at every step which parameters have gradients, where some may have none.

    Otherwise DistributedDataParallel waits for all, and stops at the second step. Where all have some, it costs time.
    """
    if isinstance(trainer.strategy, DDPStrategy) and (
        config.freeze_epochs is not None or some_without_gradient(method, config.epochs)
    ):
        trainer.strategy._ddp_kwargs["find_unused_parameters"] = True


def some_without_gradient(method: Method, epochs: int) -> bool:
    """Return whether a term has no weight, always or in some epoch: parameters of it alone get no gradient then."""
    return not all(method.weights.values()) or some_pause(method, epochs)


def some_pause(method: Method, epochs: int) -> bool:
    """Return whether a term has no weight in some epoch, and one in others."""
    ramps = (method.ramps.get(name) for name in method.weights)
    return not all(ramp(epoch, epochs) for ramp in ramps if ramp is not None for epoch in range(epochs))
