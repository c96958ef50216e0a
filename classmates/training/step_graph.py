"""A whole training step as a CUDA graph: replaying it launches everything at once, not an operation at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from classmates.contracts import Batch
from classmates.methods.base import Method, Output


class How(NamedTuple):
    """How a step is taken. autocast: makes the context of the forward pass. clip: the largest norm, if any."""

    autocast: Callable[[], AbstractContextManager[Any]]
    clip: float | None


def whole_step(method: Method, optimizer: Optimizer, batch: Batch, how: How) -> Output:
    """Take one training step: no gradients, forward, backward, update. Return its terms and total, detached."""
    optimizer.zero_grad()
    torch.clear_autocast_cache()  # it may hold the weights of before the last update
    with how.autocast():
        output = method(batch)
    output.total.backward()
    if how.clip is not None:
        clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], how.clip)
    type(optimizer).step(optimizer)  # not what a schedule has put in its place, which counts calls
    terms = {name: term.detach() for name, term in output.terms.items()}
    return Output([], terms, output.total.detach())


class StepGraph:
    """One captured step of a method, for the steps that have the same ``constants``.

    The rates of a fused optimiser are tensors in it, so that schedules go on; those of others are constants.

    Args:
        method, optimizer: what takes the step; on a GPU, after a plain step or more.
        how: how the step is taken.
        batch: one of those that it is for. Nothing is learnt from it: to capture a step is not to take it.
    """

    def __init__(self, method: Method, optimizer: Optimizer, how: How, batch: Batch):
        self.optimizer = optimizer
        self.batch = from_tensors(batch, [one.clone() for one in tensors(batch)])
        self.constants = constants(method, optimizer, batch)
        self.rates: list[Tensor] = []
        if rates_can_be_tensors(optimizer):
            self.rates = [batch.images.new_tensor(group["lr"]).float() for group in optimizer.param_groups]
        with capturable(optimizer, self.rates):
            self.run = record(lambda: whole_step(method, optimizer, self.batch, how))

    def replay(self, batch: Batch) -> Output:
        """Take the step on a batch. The result's tensors are written anew by the next replay."""
        for static, given in zip(tensors(self.batch), tensors(batch), strict=True):
            static.copy_(given, non_blocking=True)
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=bool(self.rates)):
            rate.fill_(group["lr"])
        return self.run()


def record(step: Callable[[], Output]) -> Callable[[], Output]:
    """Capture a step as a CUDA graph; return what replays it."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads copy batches meanwhile
        output = step()

    def run() -> Output:
        graph.replay()
        return output

    return run


def tensors(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch; where the last view is the images themselves, once."""
    views = batch.views[:-1] if batch.views and batch.views[-1] is batch.images else batch.views
    return [one for one in (batch.images, batch.labels, batch.indices, batch.targets, *views) if one is not None]


def from_tensors(batch: Batch, given: Iterable[Tensor]) -> Batch:
    """Return a batch like one, of other tensors in the order of ``tensors``."""
    left: Iterator[Tensor] = iter(given)
    images, labels, indices = next(left), next(left), next(left)
    targets = None if batch.targets is None else next(left)
    views = tuple(left)
    if batch.views and batch.views[-1] is batch.images:
        views = (*views, images)
    return Batch(images, labels, indices, targets, views)


def constants(method: Method, optimizer: Optimizer, batch: Batch) -> Hashable:
    """Return what a captured step has in it as constants: shapes, weights of terms, the optimiser's settings."""
    shapes = tuple((one.shape, one.dtype) for one in tensors(batch))
    held = {"params", "lr"} if rates_can_be_tensors(optimizer) else {"params"}
    settings = [value for group in optimizer.param_groups for name, value in group.items() if name not in held]
    return shapes, batch.targets is None, method.phase, tuple(map(str, settings))


def rates_can_be_tensors(optimizer: Optimizer) -> bool:
    """Return whether the optimiser's kernels read the learning rate from the device: PyTorch's fused ones do."""
    return all(group.get("fused") for group in optimizer.param_groups)


@contextmanager
def capturable(optimizer: Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Let an optimiser be captured with its rates as tensors, where there are any."""
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=bool(rates)):
        group["lr"] = rate
        if "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(optimizer.param_groups, before, strict=True):
            group.update({name: was[name] for name in ("lr", "capturable") if name in was})
