"""Peers on a binary tree (CL-ILR, Song and Chai, NeurIPS 2018): they part in two at each of the last stages."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from classmates.contracts import DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.networks.backbone.observe import hooked, observe
from classmates.networks.peers.branches import Trunk, branch
from classmates.networks.peers.peers import BranchStart, Peers, shuffle_weights


class DivideGradient(torch.autograd.Function):
    """The identity, whose gradient is divided by a number (section 3.2, back-propagation rescaling)."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, by: int) -> Tensor:
        ctx.by = by
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / ctx.by, None


def halve_gradient(output: Any) -> Any:
    """Return a stage's output at which two branches meet; its gradient is then their mean and not their sum."""
    return DivideGradient.apply(output, 2) if isinstance(output, Tensor) else output


class PeerTree(Peers):
    """M networks, a power of two, that part in two before each of the last log2(M) stages.

    With j counting peers from the student, which is 0, peer j follows peer j & (j − 1) up to the split of j's lowest
    set bit, and owns what comes after. Of four, peer 2 leaves the student at the first split, and at the second peer
    1 leaves the student and peer 3 leaves peer 2. Each split divides the gradient by its two children, so that the
    shared part is trained at the pace of one network.

    Args:
        network: the student.
        data: the classes it has to tell apart and the shape of an image.
        count: M; 4 part before the last stage but one and again before the last.
        start: as in ``Peers``, but not identical.

    Raises UserError where M is no power of two or the network has too few stages, and as ``Peers`` does.
    """

    def __init__(self, network: nn.Module, data: DataSpec, count: int, *, start: BranchStart = "fresh"):
        levels = count.bit_length() - 1
        if count < 2 or count != 2**levels:
            raise UserError(f"peers={count}: peers that part in two are 2, 4, 8, ...")
        super().__init__(network, data, 1, start=start)
        network = self.student
        architecture = self.architecture
        stages = architecture.stages
        if levels >= len(stages):
            raise UserError(
                f"peers={count} part in two {levels} times, but the network has {len(stages)} stages "
                f"({', '.join(stage.name for stage in stages)}): at most {2 ** (len(stages) - 1)} peers"
            )
        # By the lowest set bit: the last split is the one next to the last stage.
        self.shared_by_bit = [len(stages) - 1 - bit for bit in range(levels)]
        templates = [branch(network, architecture, stages[shared - 1].name) for shared in self.shared_by_bit]
        networks = [network]
        self.fed_by: list[Trunk] = []
        for j in range(1, count):
            template, trunk = templates[lowest_bit(j)]
            feeding = Trunk(networks[j & (j - 1)], trunk.modules, trunk.split)
            feeding.copies = trunk.copies
            peer = copy.deepcopy(template, {id(trunk): feeding})
            shuffle_weights(peer if start == "fresh" else peer.get_submodule(architecture.classifier))
            networks.append(peer)
            self.fed_by.append(feeding)
        self.networks = nn.ModuleList(reversed(networks))
        self.architectures = [architecture] * count

    @property
    def trunks(self) -> list[Trunk]:
        """The trunk that feeds each peer but the student."""
        return self.fed_by

    def forward(self, images: Tensor) -> list[NetworkOutput]:
        """Return all networks' outputs of the images [B, C, H, W], the student's last; shared parts run once."""
        outputs: list[NetworkOutput] = []
        with ExitStack() as stack:
            for trunk in self.trunks:
                # Halved first, so that the trunk's own network and the one it feeds both go on from what is halved.
                stack.enter_context(hooked(trunk.network, {trunk.split: halve_gradient}))
                stack.enter_context(trunk.recorded())
            for j, network in enumerate(reversed(self.networks)):
                shared = outputs[j & (j - 1)].stages[: self.shared_by_bit[lowest_bit(j)]] if j else ()
                outputs.append(observe(network, self.architecture, images, shared=shared))
        return outputs[::-1]


def lowest_bit(number: int) -> int:
    """Return the position of the lowest set bit: 0 for odd numbers."""
    return (number & -number).bit_length() - 1
