"""The size of a network: parameters, and multiply-adds for one image."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, trainable or not; one that is used in two places counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Count multiply-adds of convolutions, linear layers and matrix products for one image (C, H, W), in eval mode.

    Biases, norms, activations and pooling count nothing: what papers call "FLOPs" (and half of what torch calls
    FLOPs). The network is run once, where it is, on zeros; its mode, buffers and the random state stay as they were.
    """
    modes = [(module, module.training) for module in network.modules()]
    weight = next(network.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_shape, device=weight.device, dtype=weight.dtype)
    tensors = {name: buffer.clone() for name, buffer in network.named_buffers()}
    # Without gradients: the counter stumbles over parameters that are handed from module to module as they are.
    tensors |= {name: parameter.detach() for name, parameter in network.named_parameters()}
    cuda = [image.device] if image.device.type == "cuda" else []
    counter = FlopCounterMode(display=False)
    network.eval()
    try:
        # The fused attention kernels are not all known to the counter; as plain matrix products they are.
        with torch.random.fork_rng(cuda), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            functional_call(network, tensors, (image,))
    finally:
        for module, mode in modes:
            module.training = mode
    return counter.get_total_flops() // 2
