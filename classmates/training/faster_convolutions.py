"""Convolutions in bfloat16 on a CPU, of which PyTorch computes some very slowly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

from classmates.training import depthwise, few_outputs
from classmates.training.convolution import Placement


def faster_convolutions(network: nn.Module, device: str, precision: str) -> AbstractContextManager[Any]:
    """Return a context in which a network's convolutions are fast; one without effect where all of them are.

    It is to hold for backward passes as well as for forward ones: what is computed again there must be the same.

    Args:
        network: whatever is trained.
        device: "cpu", "cuda" or another kind.
        precision: as Lightning names it.
    """
    if device != "cpu" or not precision.startswith("bf16"):
        return nullcontext()
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    slow = any(
        depthwise.is_slow(layer.weight, layer.stride, layer.groups) or few_outputs.is_wide(layer.weight, layer.groups)
        for layer in layers
    )
    return FasterConvolutions() if slow else nullcontext()


class FasterConvolutions(TorchFunctionMode):
    """Within it ``conv2d`` is that of this package wherever PyTorch's own is slow."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d:
            made = faster_conv2d(*args, **(kwargs or {}))
            if made is not None:
                return made
        return func(*args, **(kwargs or {}))


def faster_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Convolve as ``torch.nn.functional.conv2d`` does, by whose names; None where that is fast.

    input: (B, C, H, W). weight: (O, C / groups, h, w). bias: (O,) or None. Returns (B, O, H', W') in bfloat16.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
    if dtype != torch.bfloat16 or input.device.type != "cpu" or input.dim() != 4:
        return None
    if isinstance(padding, str) or _pair(dilation) != (1, 1):
        return None
    how = Placement(_pair(stride), _pair(padding))
    if depthwise.is_slow(weight, how.stride, groups) and torch.is_grad_enabled():
        ours: type[torch.autograd.Function] = depthwise.DepthwiseConv2d
    elif few_outputs.is_slow(input, weight, how, groups):
        ours = few_outputs.FewOutputsConv2d
    else:
        return None
    made: Tensor = ours.apply(input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), how)
    return made
