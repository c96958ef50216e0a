"""One silent run of a network on noise, to learn which modules run, in which order, and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from classmates._threads import torch_threads
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
        # Of two images many threads wait for one another longer than they work: on 16 cores ten times as long.
        with torch.no_grad(), torch.random.fork_rng(cuda), torch_threads(1):
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


@contextmanager
def watched(network: nn.Module) -> Iterator[set[str]]:
    """After the block, the set has the modules into whose output something has written after they returned it."""
    outputs: list[tuple[str, Tensor, int]] = []
    written: set[str] = set()

    def note(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.append((name, output, output._version))

    handles = [module.register_forward_hook(partial(note, name)) for name, module in network.named_modules()]
    try:
        yield written
    finally:
        for handle in handles:
            handle.remove()
        written |= {name for name, output, version in outputs if output._version != version}


def run_in_training(network: nn.Module, images: Tensor) -> Any:
    """Return the output in training mode, the buffers (BatchNorm's statistics) unchanged; for use in ``silent``."""
    network.train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return functional_call(network, buffers, (images,))


def default_input_shape(
    network: nn.Module, channels: int | None = None, size: int | None = None
) -> tuple[int, int, int]:
    """Return (C, H, W) of the network's images: the first that it runs on.

    The size is, where it is not given, that of timm's ``pretrained_cfg`` or one of the usual ones. The channels are,
    where they are not given, those of the first convolution or, where that is not what runs first, 3 or 1.

    Raises UserError where it runs on none of them.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    usual = [(each, each) for each in FALLBACK_SIZES]
    sizes = [tuple(config["input_size"][1:])] if config.get("input_size") else usual
    if size is not None:
        sizes = [(size, size)]
    if channels is not None and len(sizes) == 1:
        return (channels, *sizes[0])
    first = next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)
    reasons = []
    for count in [channels] if channels is not None else dict.fromkeys((first, 3, 1)):
        for height, width in sizes:
            try:
                with silent(network):
                    network(sample_images(network, (count, height, width)))
                return (count, height, width)
            except Exception as error:  # whatever a network says to images of a wrong size
                reasons.append(f"{count} channels of {height}x{width} pixels: {reason(error)}")
    raise UserError(
        f"{type(network).__name__} runs on none of the sizes that were tried ({'; '.join(reasons)}): "
        "say what it takes with DataSpec(..., input_shape=(channels, height, width))"
    )


def reason(error: Exception) -> str:
    """Return the first line of an error's message or, of one that has none, the line of code that raised it."""
    if str(error).strip():
        return first_line(error)
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.name != "_assert"]
    where = f" at `{frames[-1].line}` in {Path(frames[-1].filename).name}" if frames else ""
    return f"{type(error).__name__}{where}"
