"""Mean teachers: peers whose weights are the running mean of those that are trained."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, NetworkOutput
from classmates.networks.peers.peers import Peers


class MeanPeers(nn.Module):
    """A copy of the peers, their trunk included, whose weights follow them and that no gradient reaches.

    θ̄ ← δ_t θ̄ + (1 − δ_t) θ at the beginning of step t, from 0, with δ_t = min(1 − 1/t, δ): the copy is a plain mean
    of the weights at first, and equal to them until the third step. Its BatchNorm statistics are its own: in training
    mode it normalises by those of the batch, as the peers do.

    Args:
        peers: those that are trained.
        decay: δ, how much stays from step to step.
    """

    steps: Tensor

    def __init__(self, peers: Peers, decay: float):
        super().__init__()
        self.peers = copy.deepcopy(peers).requires_grad_(False)
        self.decay = decay
        self.register_buffer("steps", torch.zeros(()))  # on the device: a step that is replayed counts there too

    @torch.no_grad()
    def follow(self, peers: Peers) -> None:
        """Move the weights towards those of the peers, at the beginning of a step."""
        decay = (1 - 1 / self.steps.clamp(min=1)).clamp(max=self.decay)
        means: list[Tensor] = list(self.peers.parameters())
        now: list[Tensor] = list(torch._foreach_mul(list[Tensor](peers.parameters()), 1 - decay))
        torch._foreach_mul_(means, decay)
        torch._foreach_add_(means, now)
        self.steps += 1

    @torch.no_grad()
    def forward(self, batch: Batch) -> list[NetworkOutput]:
        """Return each mean teacher's output of the images, of its own view of them where there are several."""
        return self.peers.forward_each(batch.views) if batch.views else self.peers(batch.images)
