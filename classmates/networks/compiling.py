"""torch.compile for networks that are also observed: what lies between two observed places is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class CompiledForward:
    """A module's forward, compiled, which remembers what it replaced."""

    def __init__(self, original: Callable[..., Any]):
        self.original = original
        self.compiled = torch.compile(original)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.compiled(*inputs, **options)


def compile_between(network: nn.Module, observed: Iterable[str]) -> None:
    """Compiles, in place, the forward of each outermost module that has no observed module inside it.

    Hooks on the observed modules themselves then run outside the compiled code, which is the only place where they
    may come and go with every step. ``uncompile`` undoes it.
    """
    _compile_parts(network, {network.get_submodule(name) for name in observed})


def _compile_parts(module: nn.Module, observed: set[nn.Module]) -> None:
    for child in module.children():
        if any(other in observed for other in child.modules() if other is not child):
            _compile_parts(child, observed)
        elif any(True for _ in child.parameters()):
            child.forward = CompiledForward(child.forward)


def uncompile(network: nn.Module) -> None:
    """Gives every module its own forward back."""
    for module in network.modules():
        if isinstance(compiled := vars(module).get("forward"), CompiledForward):
            del module.forward
            if module.forward != compiled.original:  # somebody had given this one module another forward
                module.forward = compiled.original
