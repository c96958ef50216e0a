"""From each network's embedding to the unit sphere on which peers are contrasted (MCL-OKD, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates._memory import require_memory
from classmates.contracts import NetworkOutput
from classmates.errors import UserError


class UnitProjections(nn.Module):
    """A projection for each peer, then division by the Euclidean norm: embeddings of any width meet in one space.

    Args:
        widths: D of each peer.
        dimension: d of the space; 128 in the papers.
        hidden: a hidden layer of d units, Linear → ReLU → Linear (MCL, AAAI 2022), instead of one linear layer
            (MCL-OKD).

    Raises:
        UserError: a dimension below 1.
    """

    def __init__(self, widths: Sequence[int], dimension: int, *, hidden: bool = False):
        super().__init__()
        if dimension < 1:
            raise UserError(f"dimension={dimension}: the embeddings that are compared need at least 1")
        size = (sum(widths) + hidden * len(widths) * dimension) * dimension * torch.float32.itemsize
        require_memory(f"dimension={dimension}", "weights, gradients and momentum of the projections", 3 * size)
        self.layers = nn.ModuleList(projection(width, dimension, hidden) for width in widths)

    def forward(self, outputs: list[NetworkOutput]) -> Tensor:
        """Return unit vectors [M, B, d], float32, one row of peers."""
        projected = [layer(output.embedding) for layer, output in zip(self.layers, outputs, strict=True)]
        return F.normalize(torch.stack(projected).float(), dim=-1)


def projection(width: int, dimension: int, hidden: bool) -> nn.Module:
    """Return one peer's, from D to d numbers."""
    if not hidden:
        return nn.Linear(width, dimension)
    return nn.Sequential(nn.Linear(width, dimension), nn.ReLU(), nn.Linear(dimension, dimension))
