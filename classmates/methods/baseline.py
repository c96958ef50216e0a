"""The control: the network alone, trained by labels alone."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.methods.base import Method, Terms
from classmates.networks.peers.peers import Peers


class Baseline(Method):
    """Cross-entropy on the labels and nothing else: what every other method has to beat."""

    def __init__(self, network: nn.Module, data: DataSpec):
        super().__init__(Peers(network, data), weights={"ce": 1.0})

    def terms(self, outputs: list[NetworkOutput], batch: Batch) -> Terms:
        return {"ce": lambda: F.cross_entropy(outputs[-1].logits.float(), batch.labels)}
