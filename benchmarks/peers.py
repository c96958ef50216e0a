"""Four peers: one network after the other, all as one of grouped convolutions, all by ``torch.func.vmap``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

import classmates.models  # noqa: F401  (registers the papers' backbones)
from benchmarks.harness import Function, counts, device, interleave, peak_memory, write
from classmates.training.acceleration import FORMATS

PEERS, CLASSES = 4, 100
PARTS = ("stem", "layer1", "layer2", "layer3", "global_pool", "fc")
SHARED = {"whole": 0, "on a trunk": 2}  # how many parts are the trunk: none, or as MCL's default has it


def main(out: Path, quick: bool) -> None:
    models, batch_size, rounds = (("resnet8",), 8, 1) if quick else (("resnet8", "resnet20", "resnet32"), 48, 3)
    rows = {}
    for model in models:
        for peers, shared in SHARED.items():
            for layout in FORMATS:
                steps = {way.__name__.lower(): Step(way, model, shared, layout, batch_size) for way in WAYS}
                rows[f"{model}, {peers}, {layout}"] = row(steps, rounds)
                if device().type == "cuda":
                    graphs = {way: graphed(step) for way, step in steps.items()}
                    rows[f"{model}, {peers}, {layout}, CUDA graph"] = times(graphs, rounds)
    write(
        pd.DataFrame.from_dict(rows, orient="index").rename_axis("name"),
        "peers",
        out,
        f"Forward and backward of {PEERS} peers at batch {batch_size}, float32, 3x32x32 images: milliseconds of one "
        "after the other (loop), and as multiples of them as one network of grouped convolutions and by vmap over "
        "stacked weights, which already lie together; operations and peak MiB of each.",
    )


def row(steps: Mapping[str, Function], rounds: int) -> dict[str, float]:
    """What the ways take, and what they launch and keep."""
    figures = times(steps, rounds)
    figures |= {f"{way}_operations": counts(step).operations for way, step in steps.items()}
    return figures | {f"{way}_mib": peak_memory(step) for way, step in steps.items()}


def times(steps: Mapping[str, Function], rounds: int) -> dict[str, float]:
    """The loop's milliseconds, and the others' as multiples of them."""
    frame = interleave(steps, rounds=rounds, reference="loop")
    ratios = {way: frame["ratio"][way] for way in steps if way != "loop"}
    return {"loop_ms": frame["median_ms"]["loop"], **ratios, "rounds": int(frame["rounds"]["loop"])}


class Loop(nn.Module):
    """The peers one after the other."""

    def __init__(self, peers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.peers = nn.ModuleList(peers)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.stack([peer(maps) for peer in self.peers])


class Grouped(nn.Module):
    """The peers as one network whose maps are theirs side by side, [B, M * C, H, W].

    Every parameter and buffer has the peers' one after the other along its first axis. BatchNorm's statistics are
    each channel's own, so that they need nothing else.
    """

    def __init__(self, peers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network = side_by_side(peers)

    def forward(self, maps: Tensor) -> Tensor:
        return self.network(maps).unflatten(1, (PEERS, -1)).transpose(0, 1)


class GroupedConv(nn.Conv2d):
    """A convolution for every peer. Where all peers are given the same maps, it is one with more outputs."""

    def forward(self, maps: Tensor) -> Tensor:
        groups = maps.shape[1] // self.weight.shape[1]
        return functional.conv2d(maps, self.weight, self.bias, self.stride, self.padding, self.dilation, groups)


class GroupedLinear(nn.Linear):
    """A linear layer for every peer, as one batched product."""

    def forward(self, features: Tensor) -> Tensor:
        own = features.unflatten(1, (PEERS, -1)).transpose(0, 1)
        weight = self.weight.unflatten(0, (PEERS, -1))
        return torch.baddbmm(self.bias.view(PEERS, 1, -1), own, weight.mT).transpose(0, 1).flatten(1)


def side_by_side(peers: Sequence[nn.Module]) -> nn.Module:
    """One module of several alike, by exchanging every layer with weights for one that has all of theirs."""
    first = peers[0]
    together = copy.deepcopy(first)
    for name, _ in first.named_children():
        setattr(together, name, side_by_side([peer.get_submodule(name) for peer in peers]))
    own = [*first._parameters, *first._buffers]
    if not own:
        return together
    if isinstance(first, nn.BatchNorm2d):
        together.num_features *= len(peers)
    else:
        together.__class__ = {nn.Conv2d: GroupedConv, nn.Linear: GroupedLinear}[type(first)]
    for name in own:
        values = [getattr(peer, name) for peer in peers]
        if values[0] is not None and values[0].ndim:  # not the count of batches, which is everybody's
            joined = torch.cat([value.detach() for value in values])
            setattr(together, name, nn.Parameter(joined) if name in first._parameters else joined)
    return together


class Vmap(nn.Module):
    """One peer's forward, mapped over the stacked weights and buffers of all."""

    def __init__(self, peers: Sequence[nn.Module]) -> None:
        super().__init__()
        weights, self.statistics = stack_module_state(list(peers))  # type: ignore[arg-type]
        self.names = list(weights)
        self.weights = nn.ParameterList(weights.values())
        self.one = [copy.deepcopy(peers[0]).to("meta")]  # in a list: its own weights are not trained

    def forward(self, maps: Tensor) -> Tensor:
        def run(weights: dict[str, Tensor], statistics: dict[str, Tensor]) -> Tensor:
            return functional_call(self.one[0], (weights, statistics), (maps,))

        weights = dict(zip(self.names, self.weights, strict=True))
        return vmap(run, randomness="different")(weights, self.statistics)


WAYS = (Loop, Grouped, Vmap)


class Step:
    """Called, it does a forward and a backward pass of all peers and returns their loss; the batch is noise.

    Args:
        way: in which the peers run.
        model: a ResNet of classmates'.
        shared: how many of its parts are a trunk, which runs once.
        layout: "contiguous" or "channels_last".
        batch_size: images.
    """

    def __init__(
        self, way: Callable[[Sequence[nn.Module]], nn.Module], model: str, shared: int, layout: str, batch_size: int
    ) -> None:
        torch.manual_seed(0)
        networks = [timm.create_model(model, num_classes=CLASSES) for _ in range(PEERS)]
        for network in networks:
            network.to(device(), memory_format=FORMATS[layout])
        self.trunk = nn.Sequential(*(networks[-1].get_submodule(part) for part in PARTS[:shared]))
        branches = [nn.Sequential(*(one.get_submodule(part) for part in PARTS[shared:])) for one in networks]
        self.peers = way(branches)
        self.parameters = [*self.trunk.parameters(), *self.peers.parameters()]
        self.images = torch.randn(batch_size, 3, 32, 32).to(device(), memory_format=FORMATS[layout])
        self.labels = torch.randint(CLASSES, (batch_size,)).to(device())

    def __call__(self) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        logits = self.peers(self.trunk(self.images))
        loss = PEERS * functional.cross_entropy(logits.flatten(0, 1), self.labels.repeat(PEERS))
        loss.backward()
        return loss.detach()


def graphed(step: Step) -> Function:
    """The step as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
