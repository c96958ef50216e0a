"""Run a network and keep what its stages return and what its classifier is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from classmates.contracts import NetworkOutput
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.backbone.stages import Stage


@contextmanager
def hooked(
    network: nn.Module,
    after: Mapping[str, Callable[[Any], Any]],
    before: Mapping[str, Callable[[Any], None]] | None = None,
) -> Iterator[None]:
    """Within the block, ``after[name](output)`` and ``before[name](input)`` are called when that module runs.

    What ``after`` returns, unless it is None, takes the output's place.
    """

    def on_output(function: Callable[[Any], None]) -> Callable[..., None]:
        return lambda module, inputs, output: function(output)

    def on_input(function: Callable[[Any], None]) -> Callable[..., None]:
        return lambda module, inputs, named: function(inputs[0] if inputs else next(iter(named.values())))

    handles = [network.get_submodule(name).register_forward_hook(on_output(f)) for name, f in after.items()]
    handles += [
        network.get_submodule(name).register_forward_pre_hook(on_input(f), with_kwargs=True)
        for name, f in (before or {}).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def observe(
    network: nn.Module, architecture: Architecture, images: Tensor, shared: tuple[Tensor, ...] = ()
) -> NetworkOutput:
    """Return the network's output of the images; its own forward runs, and nothing of this stays behind in it.

    shared: maps of the first stages where the network is a branch and somebody else has made them.
    """
    maps: dict[str, Tensor] = {}
    entering: list[Tensor] = []
    own = architecture.stages[len(shared) :]
    with hooked(
        network, {stage.name: _keeper(maps, stage) for stage in own}, {architecture.classifier: entering.append}
    ):
        logits = network(images)
    embedding = entering[-1]
    if embedding.ndim > 2:  # a classifier of every place in a map, the logits pooled after it
        convolutional = isinstance(network.get_submodule(architecture.classifier), nn.Conv2d)
        embedding = (embedding.movedim(1, -1) if convolutional else embedding).flatten(1, -2).mean(1)
    return NetworkOutput(logits, embedding, (*shared, *_as_maps(own, maps, images)))


class _Reached(Exception):
    """Ends a forward whose rest nobody needs."""


def observe_first(network: nn.Module, architecture: Architecture, images: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return the maps of the first stages alone; the network's own forward is left where the last of them ends."""

    def leave(_: Any) -> None:
        raise _Reached

    maps: dict[str, Tensor] = {}
    stages = architecture.stages[:count]
    keepers = {stage.name: _keeper(maps, stage) for stage in stages}
    with suppress(_Reached), hooked(network, keepers), hooked(network, {stages[-1].name: leave}):
        network(images)
    return _as_maps(stages, maps, images)


def stack_logits(outputs: list[NetworkOutput]) -> Tensor:
    """Stack the logits, [M, B, K], one row of peers, the student's last."""
    return torch.stack([output.logits for output in outputs])


def _as_maps(stages: Sequence[Stage], outputs: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, ...]:
    image = images.shape[-2], images.shape[-1]
    return tuple(stage.as_map(outputs[stage.name], image) for stage in stages)


def by_network(outputs: list[NetworkOutput]) -> dict[str, NetworkOutput]:
    """Return the outputs by whose they are: student, peer1, peer2, ..."""
    peers = {f"peer{number}": output for number, output in enumerate(outputs[:-1], start=1)}
    return {"student": outputs[-1], **peers}


def _keeper(kept: dict[str, Tensor], stage: Stage) -> Callable[[Tensor], None]:
    """Keep a stage's output as it was returned, whatever is written into it later."""
    return lambda output: kept.update({stage.name: output.clone() if stage.written else output})
