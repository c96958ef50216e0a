"""Several processes, each of which keeps something of every training sample: one batch from all of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """Return all processes' tensors in the order of their ranks, joined along ``dim``; no gradient passes.

    They must have the same shape on every process. Without ``torch.distributed`` it is the tensor itself.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts, dim)


def own_part(gathered: Tensor) -> Tensor:
    """Return what of the tensors that ``gather`` has joined is this process's own."""
    if not (dist.is_available() and dist.is_initialized()):
        return gathered
    return gathered.chunk(dist.get_world_size())[dist.get_rank()]


def from_first(tensor: Tensor) -> None:
    """Overwrite the tensor with that of the first process, in place; nothing without ``torch.distributed``."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(tensor, 0)


def local_buffers(module: nn.Module) -> list[str]:
    """Return full names of the buffers that parts of ``module`` list as their ``local_buffers``.

    These each process keeps right by itself. DistributedDataParallel leaves those alone that the module it wraps
    names as ``_ddp_params_and_buffers_to_ignore``; else it would send a memory bank's rows at every step.
    """
    parts = module.named_modules()
    return [f"{path}.{name}".lstrip(".") for path, part in parts for name in getattr(part, "local_buffers", ())]


def last_occurrence(indices: Tensor) -> Tensor:
    """Return the position of the last index equal to each of [B]: repeated writes then write the same."""
    ordered, positions = indices.sort(stable=True)
    return positions[torch.searchsorted(ordered, indices, right=True) - 1]
