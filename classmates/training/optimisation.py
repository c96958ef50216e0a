"""Any optimiser of PyTorch or timm and any schedule of PyTorch, by name and with its own arguments."""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import timm.optim
import torch
from jsonargparse import ArgumentParser
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from classmates.errors import UserError, unknown
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.peers.branches import finished_by
from classmates.networks.peers.peers import Peers

# What the papers train with, where the user does not say otherwise.
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}}

# Given any of these, the user has chosen how the step is computed.
NOT_WITH_FUSED = {"fused", "foreach", "differentiable"}

# These change the learning rate after every step; all others after every epoch.
STEPPED_BY_BATCH = {"OneCycleLR", "CyclicLR"}
# After every epoch these forget what the rate was, and with it what a warm-up has made of it.
SET_ANEW = {"CosineAnnealingWarmRestarts"}
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


Groups = list[dict[str, Any]]
"""Groups of parameters, each with its rate, as PyTorch's optimisers take them."""
Parameters = Iterable[nn.Parameter] | Groups


def make_optimizer(
    name: str, parameters: Parameters, lr: float, arguments: Mapping[str, Any], *, fused: bool = True
) -> Optimizer:
    """Make the optimiser ``name`` (a class of torch.optim in any case, else one of timm's names) over the parameters.

    ``arguments`` go over ``OPTIMIZER_DEFAULTS``. Where PyTorch has the optimiser as one fused kernel for the
    parameters' device, that is taken if ``fused`` allows it and ``arguments`` say nothing of it themselves.

    Raises:
        UserError: unknown names and arguments, and values that the optimiser refuses.
    """
    given: list[Any] = list(parameters)
    flat = [one for entry in given for one in (entry["params"] if isinstance(entry, dict) else [entry])]
    name, cls = find_optimizer(name)
    arguments = {**OPTIMIZER_DEFAULTS.get(name, {}), **arguments}
    if fused and name in OPTIMIZERS and can_fuse(cls, flat) and not arguments.keys() & NOT_WITH_FUSED:
        arguments["fused"] = True
    return _call(f"optimizer {name}", cls, given, arguments, {"lr": lr})


def find_optimizer(name: str) -> tuple[str, Any]:
    """Return the name and the class of an optimiser; PyTorch's names in any case.

    Raises:
        UserError: it is none of PyTorch's or timm's, or needs what is not here.
    """
    of_torch = {known.lower(): known for known in OPTIMIZERS}.get(name.lower())
    if of_torch is not None:
        return of_torch, OPTIMIZERS[of_torch]
    of_timm = [str(known) for known in timm.optim.list_optimizers()]
    if name in of_timm:
        try:
            return name, timm.optim.get_optimizer_class(name, bind_defaults=False)
        except (AssertionError, ImportError) as error:  # some need a GPU or another package
            raise UserError(f"optimizer {name} cannot be used here: {error}") from error
    raise unknown("optimizer", name, [*OPTIMIZERS, *of_timm])


def layer_groups(networks: Peers, every: Iterable[nn.Parameter], lr: float, decay: float) -> Groups:
    """Group parameters so that each layer of a network learns at ``decay`` times the rate of the layer after it.

    Layers are timm's (``param_groups_layer_decay``); of networks that are not timm's, the stages and then all else.
    Norms and biases are without weight decay. What belongs to no network, a method's own parts, is new and learns at
    the whole rate, as classifiers do.

    Args:
        networks: side by side; parameters that they share are grouped once.
        every: all parameters that are trained.
        lr: the rate of the last layer.
        decay: above 0, at most 1.
    """
    groups, grouped = [], set()
    for network, architecture in zip(networks.networks, networks.architectures, strict=True):
        if hasattr(network, "group_matcher"):
            layers = param_groups_layer_decay(network, weight_decay=1.0, layer_decay=decay)
        else:
            layers = stage_groups(network, architecture, decay)
        for group in layers:
            members = [one for one in group["params"] if id(one) not in grouped]
            grouped |= set(map(id, members))
            no_decay = {"weight_decay": 0.0} if group["weight_decay"] == 0 else {}
            groups.append({"params": members, "lr": lr * group["lr_scale"], **no_decay})
    new = [one for one in every if one.requires_grad and id(one) not in grouped]
    return [group for group in (*groups, {"params": new, "lr": lr}) if group["params"]]


def stage_groups(network: nn.Module, architecture: Architecture, decay: float) -> Groups:
    """Group a network's parameters by stage, as ``param_groups_layer_decay`` does by layer, with weight decay 1."""
    last = len(architecture.stages)
    stage_of: dict[int, int] = {}
    for number, stage in enumerate(architecture.stages):
        for name in finished_by(architecture.calls, stage.name):
            for parameter in network.get_submodule(name).parameters():
                stage_of.setdefault(id(parameter), number)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for parameter in network.parameters():
        number, decays = stage_of.get(id(parameter), last), parameter.ndim > 1
        scaled = {"params": [], "lr_scale": decay ** (last - number), "weight_decay": float(decays)}
        groups.setdefault((number, decays), scaled)["params"].append(parameter)
    return list(groups.values())


def faster_groups(groups: Groups, faster: Iterable[nn.Parameter], factor: float) -> Groups:
    """Split groups so that some of their parameters learn at ``factor`` times the rate of their group."""
    fast = set(map(id, faster))
    split = []
    for group in groups:
        for wanted, times in ((False, 1.0), (True, factor)):
            members = [one for one in group["params"] if (id(one) in fast) == wanted]
            split.append({**group, "params": members, "lr": group["lr"] * times})
    return [group for group in split if group["params"]]


def can_fuse(cls: type[Optimizer], parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether PyTorch has a fused kernel of this optimiser for all of the parameters."""
    return "fused" in inspect.signature(cls).parameters and all(
        parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point() for parameter in parameters
    )


def make_schedule(
    name: str, optimizer: Optimizer, arguments: Mapping[str, Any], *, epochs: int, steps_per_epoch: int
) -> tuple[LRScheduler, str]:
    """Make the schedule ``name`` of torch.optim.lr_scheduler; also return what it counts in, "epoch" or "step".

    What follows from the run is filled in where it is not given: ``T_max`` and ``total_iters`` are its epochs,
    ``total_steps`` its steps, ``max_lr`` its learning rate; the ``factor`` of a constant rate is 1.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    from_run = {
        "T_max": epochs,
        "total_iters": epochs,
        "factor": 1.0,  # PyTorch's is a third, which over all epochs would be another rate than the run's
        "total_steps": epochs * steps_per_epoch,
        "max_lr": [group["lr"] for group in optimizer.param_groups],
    }
    takes = inspect.signature(SCHEDULES[name]).parameters
    arguments = {**{key: value for key, value in from_run.items() if key in takes}, **arguments}
    if name == "OneCycleLR":
        if not isinstance(arguments["max_lr"], list):
            raise UserError(
                "schedule_args.max_lr: OneCycleLR rises to the learning rate, of each part its own: give lr"
            )
        arguments = without_empty_rise(arguments)
    schedule = _call(f"schedule {name}", SCHEDULES[name], optimizer, arguments, {})
    return schedule, "step" if name in STEPPED_BY_BATCH else "epoch"


def without_empty_rise(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of OneCycleLR whose rise, ``pct_start · total_steps - 1`` steps, is not just 0 of them.

    PyTorch divides by them; with fewer than 0 it begins on the way down, and so it does a hair below 0.
    """
    share, steps = arguments.get("pct_start", 0.3), arguments.get("total_steps")
    numbers = isinstance(share, int | float) and isinstance(steps, int)
    return {**arguments, "pct_start": share * (1 - 1e-9)} if numbers and share * steps == 1 else dict(arguments)


def make_warmup(schedule: str, optimizer: Optimizer, steps: int, steps_per_epoch: int) -> LRScheduler:
    """Make a linear warm-up over the first ``steps``, which multiplies what a schedule gives.

    PyTorch's schedules go on from the rate that they find. After more than an epoch of warm-up a cosine that ends
    above 0 (``eta_min``) is therefore a little above what it would be without, less and less so to its end.

    Raises:
        UserError: a schedule that begins with a warm-up of its own, or one that undoes it after an epoch.
    """
    if schedule in STEPPED_BY_BATCH:
        raise UserError(f"warmup_epochs: {schedule} rises by itself (pct_start, step_size_up): leave the warm-up out")
    if schedule in SET_ANEW and steps > steps_per_epoch:
        raise UserError(f"warmup_epochs: {schedule} sets the rate anew after every epoch: give 1 or less")
    return lr_scheduler.LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


def _call(what: str, cls: Any, first: Any, arguments: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    """Call ``cls(first, **fixed, **arguments)``, with errors that say how to mend them."""
    signature = inspect.signature(cls).parameters
    takes = [name for name in signature if name not in fixed][1:]
    for name in arguments:
        if name in fixed:
            raise UserError(f"{what}: '{name}' is given as --{name}, not among its arguments")
        if name not in takes:
            raise unknown(f"argument of {what}", name, takes)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [signature[name] for name in takes if name not in arguments and signature[name].kind in named]
    if missing := [one.name for one in needed if one.default is one.empty]:
        raise UserError(f"{what} needs its {missing[0]}: say --{what.partition(' ')[0]}_args.{missing[0]}")
    try:
        return cls(first, **fixed, **_typed(what, cls, arguments))
    except UserError:
        raise
    except Exception as error:  # of any type: what is wrong with a value is found where it is used
        raise UserError(f"{what}: {' '.join(str(error).split())}") from error


@cache
def _parser(cls: Any, names: frozenset[str]) -> ArgumentParser:
    """Return what types these arguments of a class; making it takes longer than all else of an optimiser."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, skip=inspect.signature(cls).parameters.keys() - names, fail_untyped=False)
    return parser


def _typed(what: str, cls: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the types of the signature; UserError for another type."""
    try:
        return dict(vars(_parser(cls, frozenset(arguments)).parse_object(dict(arguments))))
    except ArgumentError as error:
        wrong = next((name for name in arguments if f'"{name}"' in str(error)), None)
        if wrong is None:
            raise
        takes = inspect.formatannotation(inspect.signature(cls).parameters[wrong].annotation).strip("'")
        raise UserError(f"{what}: '{wrong}' takes {takes}, not {arguments[wrong]!r}") from error
