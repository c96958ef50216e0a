"""One silent run of a network on noise, to learn which modules run, in which order, and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from classmates.errors import UserError, first_line

BATCH = 2  # images a silent run has
FALLBACK_SIZES = (32, 64, 224)  # pixels to try where a network does not say what it takes


class Call(NamedTuple):
    """One call of one module. started, ended: clock ticks; a child starts after and ends before its parent."""

    name: str
    module: nn.Module
    started: int
    ended: int
    shape: tuple[int, ...] | None  # of the output, batch first; None where it is not one tensor


@contextmanager
def silent(network: nn.Module) -> Iterator[None]:
    """Evaluate without gradients within the block; random state and modules' modes are as before after it."""
    modes = [(module, module.training) for module in network.modules()]
    cuda = {parameter.device for parameter in network.parameters() if parameter.is_cuda}
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(cuda):
            yield
    finally:
        network.train()  # some networks keep in evaluation what they must forget in training (attention biases)
        for module, mode in modes:
            module.training = mode


def sample_images(network: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    """Return the same noise every time, shaped like ``BATCH`` images, where the network's parameters are."""
    noise = torch.randn(BATCH, *input_shape, generator=torch.Generator().manual_seed(0))
    parameter = next(network.parameters(), noise)
    return noise.to(parameter.device, parameter.dtype)


def record_calls(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[list[Call], Any]:
    """Return every module call of one run, in the order in which the calls ended, and the network's output."""
    calls: list[Call] = []
    pending: list[int] = []
    tick = iter(range(1 << 62))
    names = {module: name for name, module in network.named_modules()}

    def before(module: nn.Module, _: Any) -> None:
        pending.append(next(tick))

    def after(module: nn.Module, _: Any, output: Any) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        calls.append(Call(names[module], module, pending.pop(), next(tick), shape))

    handles = [module.register_forward_pre_hook(before) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    try:
        with silent(network):
            output = network(sample_images(network, input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return calls, output


def run_in_training(network: nn.Module, images: Tensor) -> Any:
    """Return the output in training mode, the buffers (BatchNorm's statistics) unchanged; for use in ``silent``."""
    network.train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return functional_call(network, buffers, (images,))


def default_input_shape(network: nn.Module) -> tuple[int, int, int]:
    """Return (C, H, W) of the network's images: timm's ``pretrained_cfg``, else the first size that it runs on.

    Raises UserError where it runs on none of them.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = convolution.in_channels if convolution is not None else 3
    if config.get("input_size"):
        return (channels, *config["input_size"][1:])
    reasons = []
    for size in FALLBACK_SIZES:
        try:
            with silent(network):
                network(sample_images(network, (channels, size, size)))
            return (channels, size, size)
        except Exception as error:  # whatever a network says to images of a wrong size
            reasons.append(f"{size} pixels: {first_line(error)}")
    raise UserError(
        f"{type(network).__name__} runs on none of the sizes that were tried ({'; '.join(reasons)}): "
        "say what it takes with DataSpec(..., input_shape=(channels, height, width))"
    )
