"""A shared trunk without editing anybody's network.

The student runs once. Every other peer is a copy in which each top-most module that had run by the split point is
replaced by a stub: the last one returns the student's features, the earlier ones return an expanded zero of the shape
they used to return, at no cost. The network's own forward code does the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from classmates.errors import UserError
from classmates.networks.anatomy import Anatomy
from classmates.networks.probe import Call, sample_images, silent
from classmates.networks.views import hooked


class Trunk:
    """What the shared part made of the current batch; empty between forwards."""

    def __init__(self, modules: list[str], split: str):
        self.modules = modules
        self.split = split
        self.outputs: dict[str, Any] = {}

    @contextmanager
    def recorded(self, network: nn.Module) -> Iterator[None]:
        """Within the block, a run of ``network`` fills the trunk; after the block it is empty again."""
        keepers = {name: self._keeper(name) for name in self.modules}
        try:
            with hooked(network, keepers):
                yield
        finally:
            self.outputs.clear()

    def _keeper(self, name: str) -> Any:
        if name == self.split:
            return lambda output: self.outputs.update({name: output})
        return lambda output: self.outputs.update({name: pytree.tree_map_only(Tensor, _placeholder, output)})


def _placeholder(tensor: Tensor) -> Tensor:
    """A zero of the same shape, type and device that takes the memory of one number."""
    return tensor.new_zeros(()).expand(tensor.shape)


class Stub(nn.Module):
    """Stands where a shared module stood and returns what the trunk holds for it."""

    def __init__(self, trunk: Trunk, name: str):
        super().__init__()
        self.trunk = trunk
        self.name = name

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.trunk.outputs[self.name]


def finished_by(calls: tuple[Call, ...], split: str) -> list[str]:
    """The top-most modules that had run for the last time when ``split`` returned, in the order in which they ended.

    Modules that ran several times are kept in the branch: they would have to return something else each time.
    """
    end = max(call.ended for call in calls if call.name == split)
    times_called: dict[str, int] = {}
    for call in calls:
        times_called[call.name] = times_called.get(call.name, 0) + 1
    done = [call.name for call in calls if call.ended <= end and times_called[call.name] == 1]
    outside = {call.name for call in calls if call.ended > end}
    nested = {name for name in done if any(name.startswith(f"{other}.") for other in done)}
    return [name for name in done if name not in nested and name not in outside]


def branch(network: nn.Module, anatomy: Anatomy, split: str) -> tuple[nn.Module, Trunk]:
    """A copy of ``network`` that begins after the stage ``split``, and the trunk that feeds it.

    The copy holds no parameter that it no longer uses. Raises UserError where the network cannot be cut there, that
    is, where the branch fed by the trunk does not give the network's own output to the last bit.
    """
    trunk = Trunk(finished_by(anatomy.calls, split), split)
    copied = copy.deepcopy(network)
    for name in trunk.modules:
        parent, _, child = name.rpartition(".")
        setattr(copied.get_submodule(parent), child, Stub(trunk, name))
    images = sample_images(network, anatomy.input_shape)
    try:
        with silent(network), silent(copied), trunk.recorded(network):
            same = torch.equal(network(images), copied(images))
            drop_unused_parameters(copied, trunk, images)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise cannot_cut(network, split, str(error)) from error
    if not same:
        raise cannot_cut(network, split, "something before it reaches past it")
    return copied, trunk


def cannot_cut(network: nn.Module, split: str, reason: str) -> UserError:
    return UserError(
        f"{type(network).__name__} cannot be split after '{split}' ({reason}): "
        "split it elsewhere (share=STAGE) or share nothing (share='nothing')"
    )


def drop_unused_parameters(branched: nn.Module, trunk: Trunk, images: Tensor) -> None:
    """Turns parameters that nothing depends on any more (a position embedding) into placeholder buffers."""
    parameters = {name: p for name, p in branched.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        gradients = torch.autograd.grad(branched(images).sum(), list(parameters.values()), allow_unused=True)
    for name, gradient in zip(list(parameters), gradients, strict=True):
        if gradient is None:
            path, _, leaf = name.rpartition(".")
            owner = branched.get_submodule(path)
            delattr(owner, leaf)
            owner.register_buffer(leaf, _placeholder(parameters[name].detach()), persistent=False)
