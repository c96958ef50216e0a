"""Replaced forwards: the modules between two observed ones are compiled, or run again in backward.

Hooks on the observed modules themselves then run outside that code, which is the only place where they may come and
go with every step, and where they see each batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ReplacedForward:
    """A replacement of a module's own forward, which it keeps."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.original: Callable[..., Any] = module.forward

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError


class CompiledForward(ReplacedForward):
    """The module's forward, compiled."""

    def __init__(self, module: nn.Module):
        super().__init__(module)
        self.compiled = torch.compile(module.forward)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.compiled(*inputs, **options)


class RecomputedForward(ReplacedForward):
    """The module's forward, of which only the inputs are kept for backward, where it runs a second time.

    The second run finds the buffers (BatchNorm's running statistics) that the first one found, and they stay as the
    first one made them. Where an input is written into in between, PyTorch
    raises an error in backward.
    """

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if not (self.module.training and torch.is_grad_enabled()):
            return self.original(*inputs, **options)
        forward = partial(self.original, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=self._around_runs)

    def _around_runs(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        owners = self.module.modules()
        found = [
            (owner, name, buffer.clone()) for owner in owners for name, buffer in owner.named_buffers(recurse=False)
        ]
        return nullcontext(), buffers_as(found)


@contextmanager
def buffers_as(found: Sequence[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Within the block modules have these buffers, by name, in the place of their own."""
    own = [getattr(owner, name) for owner, name, _ in found]
    try:
        for owner, name, buffer in found:
            setattr(owner, name, buffer)
        yield
    finally:
        for (owner, name, _), buffer in zip(found, own, strict=True):
            setattr(owner, name, buffer)


def parts_between(network: nn.Module, observed: Iterable[str]) -> list[nn.Module]:
    """Return each outermost module that has parameters and no observed module inside it, in the network's order."""
    return list(_parts(network, {network.get_submodule(name) for name in observed}))


def _parts(module: nn.Module, observed: set[nn.Module]) -> Iterator[nn.Module]:
    for child in module.children():
        if any(other in observed for other in child.modules() if other is not child):
            yield from _parts(child, observed)
        elif any(True for _ in child.parameters()):
            yield child


def replace_forwards(modules: Iterable[nn.Module], replacement: type[ReplacedForward]) -> None:
    """Give each of the modules another forward, in place; ``restore_forwards`` undoes it."""
    for module in modules:
        module.forward = replacement(module)


def restore_forwards(network: nn.Module) -> None:
    """Give every module its own forward back."""
    for module in network.modules():
        if isinstance(replaced := vars(module).get("forward"), ReplacedForward):
            del module.forward
            if module.forward != replaced.original:  # somebody had given this one module another forward
                module.forward = replaced.original
