"""A shared trunk without editing anybody's network.

The student runs once. Every other peer is a copy in which each top-most module that had run by the split point is
replaced by a stub: the last one returns the student's features, the earlier ones return an expanded zero of the shape
they used to return, at no cost. The network's own forward code does the rest. Where that code writes into what its
modules returned (``x += shortcut``), or hands something from before the split past it, every stub returns a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from classmates.errors import UserError, first_line
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.backbone.observe import hooked
from classmates.networks.backbone.probe import Call, run_in_training, sample_images, silent


class Trunk:
    """The shared part's outputs of the current batch; empty between forwards.

    Args:
        network: the student.
        modules: the shared modules, in the order in which they end.
        split: the one whose output is the shared features.

    Attributes:
        copies: whether stubs return copies of everything that the modules returned.
    """

    def __init__(self, network: nn.Module, modules: list[str], split: str):
        self.network = network
        self.modules = modules
        self.split = split
        self.copies = False
        self.outputs: dict[str, Any] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within the block, a run of the student fills the trunk; after the block it is empty again."""
        try:
            with hooked(self.network, {name: partial(self._keep, name) for name in self.modules}):
                yield
        finally:
            self.outputs.clear()

    def _keep(self, name: str, output: Any) -> None:
        if self.copies:
            output = _map_tensors(torch.clone, output)
        elif name != self.split:
            output = _map_tensors(_placeholder, output)
        self.outputs[name] = output

    def output(self, name: str) -> Any:
        """Return the output that a stub returns for the module of this name."""
        return _map_tensors(torch.clone, self.outputs[name]) if self.copies else self.outputs[name]


def _map_tensors(function: Callable[[Tensor], Tensor], output: Any) -> Any:
    return pytree.tree_map_only(Tensor, function, output)


def _placeholder(tensor: Tensor) -> Tensor:
    """Return a zero of the same shape, type and device that takes the memory of one number."""
    return tensor.new_zeros(()).expand(tensor.shape)


class Stub(nn.Module):
    """A shared module's replacement, with its attributes: it returns what the trunk holds for the module."""

    def __init__(self, trunk: Trunk, name: str):
        super().__init__()
        self.trunk = trunk
        self.name = name

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.trunk.output(self.name)

    def __getattr__(self, attribute: str) -> Any:
        # Only what is not found otherwise comes here; some forward code asks its modules for sizes and settings.
        if attribute.startswith("__") or attribute == "trunk":
            raise AttributeError(attribute)
        return getattr(self.trunk.network.get_submodule(self.name), attribute)


def finished_by(calls: tuple[Call, ...], split: str) -> list[str]:
    """Return the top-most modules whose last run was over when ``split`` returned, in the order in which they ended.

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


def counts_twice(calls: tuple[Call, ...], split: str) -> bool:
    """Return whether a module with buffers (BatchNorm's statistics) runs before the split and again after it.

    It is kept in the branch, where it would count the placeholders that it is given before the split.
    """
    end = max(call.ended for call in calls if call.name == split)
    before = {call.name for call in calls if call.ended <= end}
    again = [call.module for call in calls if call.started > end and call.name in before]
    return any(True for module in again for _ in module.buffers())


def branch(network: nn.Module, architecture: Architecture, split: str) -> tuple[nn.Module, Trunk]:
    """Return a copy of ``network`` that begins after the stage ``split``, and the trunk that feeds it.

    The copy holds no parameter that it no longer uses. Raises UserError where the network cannot be cut there, that
    is, where the branch fed by the trunk does not give the network's own output to the last bit.
    """
    trunk = Trunk(network, finished_by(architecture.calls, split), split)
    written = any(stage.written for stage in architecture.stages if stage.name == split)
    trunk.copies = written or counts_twice(architecture.calls, split)
    branched = copy.deepcopy(network)
    for name in trunk.modules:
        parent, _, child = name.rpartition(".")
        setattr(branched.get_submodule(parent), child, Stub(trunk, name))
    images = sample_images(network, architecture.input_shape)
    if difference(branched, trunk, images):
        trunk.copies = True  # from before the split something is handed past it
        if reason := difference(branched, trunk, images):
            raise UserError(
                f"{type(network).__name__} cannot be split after '{split}' ({reason}): "
                "split it elsewhere (share=STAGE) or share nothing (share='nothing')"
            )
    drop_unused_parameters(branched, trunk, images)
    return branched, trunk


def difference(branched: nn.Module, trunk: Trunk, images: Tensor) -> str:
    """Return how the branch's output differs from the whole network's, in words; empty where it does not."""
    try:
        with silent(trunk.network), silent(branched), trunk.recorded():
            logits = trunk.network(images)
            return "" if torch.equal(logits, branched(images)) else "what it computes is not all made by its modules"
    except Exception as error:  # anything may come out of a forward whose modules are not what it expects
        return first_line(error)


def drop_unused_parameters(branched: nn.Module, trunk: Trunk, images: Tensor) -> None:
    """Turn parameters that nothing depends on any more (a position embedding) into placeholder buffers.

    What is looked at is training, and evaluation too: blocks that training skips at random are of use.
    """
    # In a copy: a network may keep on itself what it computes, which could then be copied no more.
    tried = copy.deepcopy(branched, {id(trunk): trunk})
    parameters = {name: p for name, p in tried.named_parameters() if p.requires_grad}
    used = dict.fromkeys(parameters, False)
    for run in (lambda network, images: network(images), run_in_training):
        with silent(trunk.network), silent(tried), trunk.recorded():
            run(trunk.network, images)
            with torch.enable_grad():
                logits = run(tried, images)
                gradients = torch.autograd.grad(logits.sum(), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            used[name] |= gradient is not None
    for name, of_use in used.items():
        if not of_use:
            path, _, leaf = name.rpartition(".")
            owner = branched.get_submodule(path)
            delattr(owner, leaf)
            owner.register_buffer(leaf, _placeholder(parameters[name].detach()), persistent=False)
