"""Any optimiser of PyTorch or timm and any schedule of PyTorch, by name and with its own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import timm.optim
import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from classmates.errors import UserError, unknown

# What the papers train with, where the user does not say otherwise.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}}

# Who says any of these has chosen how the step is computed.
NOT_WITH_FUSED = {"fused", "foreach", "differentiable"}

# These change the learning rate after every step; all others after every epoch.
STEPPED_BY_BATCH = {"OneCycleLR", "CyclicLR"}
# These need functions, other schedules or a metric, which a name cannot bring.
NOT_BY_NAME = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}

OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: cls
    for name, cls in vars(torch.optim).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and cls is not Optimizer
}
SCHEDULES: dict[str, type[LRScheduler]] = {
    name: cls
    for name, cls in vars(lr_scheduler).items()
    if inspect.isclass(cls) and issubclass(cls, LRScheduler) and name not in NOT_BY_NAME and not name.startswith("_")
}


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, arguments: Mapping[str, Any], *, fused: bool = True
) -> Optimizer:
    """The optimiser ``name`` (a class of torch.optim in any case, else one of timm's names) over the parameters.

    ``arguments`` go over ``OPTIMIZER_DEFAULTS``. Where PyTorch has the optimiser as one fused kernel for the
    parameters' device, that is taken if ``fused`` allows it and ``arguments`` say nothing of it themselves.

    Raises:
        UserError: unknown names and arguments, and values that the optimiser refuses.
    """
    parameters = list(parameters)
    of_torch = {known.lower(): known for known in OPTIMIZERS}.get(name.lower())
    of_timm = [str(known) for known in timm.optim.list_optimizers()]
    cls: Any
    if of_torch is not None:
        name, cls = of_torch, OPTIMIZERS[of_torch]
    elif name in of_timm:
        cls = timm.optim.get_optimizer_class(name, bind_defaults=False)
    else:
        raise unknown("optimizer", name, [*OPTIMIZERS, *of_timm])
    arguments = {**OPTIMIZER_DEFAULTS.get(name, {}), **arguments}
    if fused and of_torch is not None and can_fuse(cls, parameters) and not arguments.keys() & NOT_WITH_FUSED:
        arguments["fused"] = True
    return _call(f"optimizer {name}", cls, parameters, arguments, {"lr": lr})


def can_fuse(cls: type[Optimizer], parameters: Iterable[nn.Parameter]) -> bool:
    """Whether PyTorch has a fused kernel of this optimiser for all of the parameters."""
    return "fused" in inspect.signature(cls).parameters and all(
        parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point() for parameter in parameters
    )


def make_schedule(
    name: str, optimizer: Optimizer, arguments: Mapping[str, Any], *, epochs: int, steps_per_epoch: int
) -> tuple[LRScheduler, str]:
    """The schedule ``name`` of torch.optim.lr_scheduler and what it counts in, "epoch" or "step".

    What follows from the run is filled in where it is not given: ``T_max``, ``total_iters`` and ``num_epochs`` are
    its epochs, ``total_steps`` its steps, ``max_lr`` its learning rate.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    from_run = {
        "T_max": epochs,
        "total_iters": epochs,
        "total_steps": epochs * steps_per_epoch,
        "max_lr": optimizer.param_groups[0]["lr"],
    }
    takes = inspect.signature(SCHEDULES[name]).parameters
    filled = {key: value for key, value in from_run.items() if key in takes}
    schedule = _call(f"schedule {name}", SCHEDULES[name], optimizer, {**filled, **arguments}, {})
    return schedule, "step" if name in STEPPED_BY_BATCH else "epoch"


def _call(what: str, cls: Any, first: Any, arguments: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    """``cls(first, **fixed, **arguments)``, with the errors that a user can mend."""
    takes = [name for name in inspect.signature(cls).parameters if name not in fixed][1:]
    for name in arguments:
        if name in fixed:
            raise UserError(f"{what}: '{name}' is given as --{name}, not among its arguments")
        if name not in takes:
            raise unknown(f"argument of {what}", name, takes)
    try:
        return cls(first, **fixed, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: {error}") from error
