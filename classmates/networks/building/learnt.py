"""What has learnt in a network before training begins, and a beginning for the classifier that has not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from classmates.networks.backbone.architecture import inspect_network, weight_of


def has_learnt(network: nn.Module) -> bool:
    """Return whether a network was trained: whether the scales and shifts in a normalisation layer differ.

    They begin alike, whatever draws the network; only training makes them differ. A network without such layers does
    not show it, and counts as one that has not.
    """
    return any(
        all(isinstance(one, Tensor) and one.ndim == 1 and _differs(one) for one in (scale, shift))
        for module in network.modules()
        if (scale := getattr(module, "weight", None)) is not None
        and (shift := getattr(module, "bias", None)) is not None
    )


def classifier_is_new(network: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Return whether the classifier's biases are all alike, as timm draws them.

    Of one that has learnt they differ; so do those of PyTorch's own layers, which begin small already.

    input_shape: (C, H, W) of an image.
    """
    bias = network.get_submodule(inspect_network(network, input_shape).classifier).bias
    return isinstance(bias, Tensor) and not _differs(bias)


@torch.no_grad()
def begin_small(network: nn.Module, input_shape: tuple[int, int, int], *, always: bool) -> bool:
    """Draw a new classifier's weights as PyTorch's own layers do, uniform to 1/√D, its bias 0.

    Some networks draw theirs for a thousand classes (timm's EfficientNets and MobileNets: uniform to 1/√K), which for
    ten is many times too large: the first steps then undo that, through every layer that was trained before.

    Args:
        network: with a classifier that no weights were loaded into.
        input_shape: (C, H, W) of an image.
        always: also where the classifier is no larger than that.

    Returns:
        Whether it was drawn anew.
    """
    classifier = network.get_submodule(inspect_network(network, input_shape).classifier)
    weight = weight_of(classifier)
    bound = weight[0].numel() ** -0.5
    if not always and weight.abs().max() <= bound:
        return False
    nn.init.uniform_(weight, -bound, bound)
    if isinstance(bias := classifier.bias, nn.Parameter):
        nn.init.zeros_(bias)
    return True


def _differs(values: Tensor) -> bool:
    """Return whether the values are not all the same one."""
    return not is_lazy(values) and not values.is_meta and bool((values != values[0]).any())
