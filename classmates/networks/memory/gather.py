"""Several processes that learn from one batch: what needs all of its images gathers them, and all keep the same.

Each process has its own part of the batch, and DistributedDataParallel takes the mean of their gradients. So a term
that is a mean over images needs nothing of this; one that looks at images together does, to be that of one process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@runtime_checkable
class Sharded(Protocol):
    """A part of a method of which each process has its own share; both change a ``state_dict`` in place."""

    def to_whole(self, state: dict[str, Any], prefix: str) -> None:
        """Put the whole into it in the place of the share, on the first process; all take part."""

    def to_own(self, state: dict[str, Any], prefix: str) -> None:
        """Put this process's share into it in the place of the whole."""


def place() -> tuple[int, int]:
    """Return the rank of this process and the number of all; (0, 1) without ``torch.distributed``."""
    return (dist.get_rank(), dist.get_world_size()) if initialised() else (0, 1)


def initialised() -> bool:
    """Return whether this is one of the processes of ``torch.distributed``."""
    return dist.is_available() and dist.is_initialized()


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Return all processes' tensors in the order of their ranks, joined along ``dim``; no gradient passes.

    They must have the same shape on every process. Without ``torch.distributed`` it is the tensor itself.
    """
    if not initialised():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts, dim)


def gather_with_gradient(tensor: Tensor, dim: int = 0) -> Tensor:
    """Return the same as ``gather``, with the gradient that all processes' losses together have in the own tensor.

    A loss that every process makes of all tensors, or a loss whose mean over the processes is that of all tensors,
    then has by DistributedDataParallel's mean the gradient that one process has. All take part in its backward pass.
    """
    return tensor if place()[1] == 1 else _Gathered.apply(tensor, dim)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        return gather(tensor, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return add_own(gradient, ctx.dim), None


def gather_to_first(tensor: Tensor) -> list[Tensor]:
    """Return all processes' tensors, of one shape, in the order of their ranks, on the first process; else none."""
    rank, processes = place()
    if processes == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(processes)] if rank == 0 else []
    dist.gather(tensor.contiguous(), parts or None, 0)
    return parts


def add(tensor: Tensor) -> Tensor:
    """Return the sum of all processes' tensors, of one shape; no gradient passes."""
    if place()[1] == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def mean(tensor: Tensor) -> Tensor:
    """Return the mean of all processes' tensors, of one shape; no gradient passes."""
    return add(tensor) / place()[1]


def add_own(tensor: Tensor, dim: int = 0) -> Tensor:
    """Return this process's part, along ``dim``, of the sum of all processes' tensors; no gradient passes.

    The parts are of equal length, in the order of ranks, as ``gather`` has joined them.
    """
    processes = place()[1]
    if processes == 1:
        return tensor
    tensor = tensor.movedim(dim, 0).contiguous()
    own = tensor.new_empty(len(tensor) // processes, *tensor.shape[1:])
    # The second name is that of older versions, and in newer ones warns at every call.
    reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    reduce_scatter(own, tensor)
    return own.movedim(0, dim)


def own_part(gathered: Tensor) -> Tensor:
    """Return what of the tensors that ``gather`` has joined is this process's own."""
    rank, processes = place()
    return gathered.chunk(processes)[rank]


def gather_in_turn(tensor: Tensor) -> Tensor:
    """Return the same as ``gather`` with the first rows of all processes first, then their second rows, and so on.

    So it is in the order of the batch that they share, where a row is of a group of images: groups are dealt in turn.
    """
    return gather(tensor).unflatten(0, (place()[1], -1)).transpose(0, 1).flatten(0, 1)


def own_in_turn(gathered: Tensor) -> Tensor:
    """Return what of the tensors that ``gather_in_turn`` has joined is this process's own."""
    rank, processes = place()
    return gathered[rank::processes]


def from_first(tensor: Tensor) -> None:
    """Overwrite the tensor with that of the first process, in place; nothing without ``torch.distributed``."""
    if initialised():
        dist.broadcast(tensor, 0)


def local_buffers(module: nn.Module) -> list[str]:
    """Return full names of the buffers that parts of ``module`` list as their ``local_buffers``.

    These each process keeps right by itself. DistributedDataParallel leaves those alone that the module it wraps
    names as ``_ddp_params_and_buffers_to_ignore``; else it would send a memory bank's rows at every step.
    """
    parts = module.named_modules()
    return [f"{path}.{name}".lstrip(".") for path, part in parts for name in getattr(part, "local_buffers", ())]


def whole_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Make a ``state_dict`` of ``module`` one for any number of processes, in place, on the first; all take part."""
    for prefix, part in _sharded(module):
        part.to_whole(state, prefix)


def own_state(module: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """Return what this process takes of a state that ``whole_state`` has made."""
    own = dict(state)
    for prefix, part in _sharded(module):
        part.to_own(own, prefix)
    return own


def _sharded(module: nn.Module) -> Iterable[tuple[str, Sharded]]:
    for path, part in module.named_modules():
        if isinstance(part, Sharded):
            yield f"{path}.".lstrip("."), part


def last_occurrence(indices: Tensor) -> Tensor:
    """Return the position of the last index equal to each of [B]: repeated writes then write the same."""
    ordered, positions = indices.sort(stable=True)
    return positions[torch.searchsorted(ordered, indices, right=True) - 1]
