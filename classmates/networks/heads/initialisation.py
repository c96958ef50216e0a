"""The first weights of what training adds to a network: as released code draws them, or as PyTorch does."""

from __future__ import annotations

from typing import Literal

from torch import nn

from classmates.models.backbone import Backbone

Initialisation = Literal["released", "torch"]


def initialise_like(network: nn.Module, part: nn.Module) -> None:
    """Draw a part anew as this package's networks draw their own layers; leave it as it is beside any other network.

    In released code that builds a network and its gate or attention in one class, one rule draws them both: for VGG
    linear weights from N(0, 0.01²) and biases of 0, for DenseNet biases of 0, for ResNet and HCGNet PyTorch's own.
    """
    if isinstance(network, Backbone):
        part.apply(network.initialize)
