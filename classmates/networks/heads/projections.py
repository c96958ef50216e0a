"""From each network's embedding to the unit sphere on which peers are contrasted (MCL-OKD, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import NetworkOutput


class UnitProjections(nn.Module):
    """One linear layer a peer, then division by the Euclidean norm: embeddings of any width meet in one space.

    Args:
        widths: D of each peer.
        dimension: d of the space; 128 in the paper.
    """

    def __init__(self, widths: Sequence[int], dimension: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, dimension) for width in widths)

    def forward(self, outputs: list[NetworkOutput]) -> Tensor:
        """Return unit vectors [M, B, d], float32, one row of peers."""
        projected = [layer(output.embedding) for layer, output in zip(self.layers, outputs, strict=True)]
        return F.normalize(torch.stack(projected).float(), dim=-1)
