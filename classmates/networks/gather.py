"""One batch from all processes, for what every process keeps of every training sample."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def gather(tensor: Tensor, dim: int = 0) -> Tensor:
    """The tensors of all processes, in the order of their ranks, joined along ``dim``; no gradient passes.

    They must have the same shape on every process. Without ``torch.distributed`` it is the tensor itself.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts, dim)


def last_occurrence(indices: Tensor) -> Tensor:
    """For each of the indices [B], the position of the last one equal to it: repeated writes then write the same."""
    ordered, positions = indices.sort(stable=True)
    return positions[torch.searchsorted(ordered, indices, right=True) - 1]
