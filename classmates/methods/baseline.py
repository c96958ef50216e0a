"""The control: the network alone, trained by labels alone."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from classmates.contracts import Batch, DataSpec, NetworkOutput, Terms
from classmates.methods.about import About
from classmates.methods.base import Method
from classmates.networks.peers.peers import Peers


class Baseline(Method):
    """Cross-entropy on the labels and nothing else: what every other method has to beat.

    L = CE(z, y): the terms of the task alone.
    """

    about = About("control", None, 1.0)
    mixes: ClassVar[bool] = True

    def __init__(self, network: nn.Module, data: DataSpec):
        super().__init__(Peers(network, data), data, classifier=False)

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {}
