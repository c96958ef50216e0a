"""Where a network's stages, embedding and classifier are: found in any timm, torchvision or own nn.Module.

Stages come, in this order, from the network's own ``stage_names`` (set it to name them yourself), from timm's
``feature_info``, or from one silent run: the last module at each spatial resolution. Nothing is traced or edited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from classmates.errors import UserError, nearest
from classmates.networks.probe import Call, default_input_shape, record_calls

ISOTROPIC_STAGES = 4  # a network of one resolution (ViT) is cut into this many stages of equal depth
GLOBAL_POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class Layout(Enum):
    """How a module lays out its map; every map of a View is NCHW."""

    NCHW = "channels first"
    NHWC = "channels last"
    TOKENS = "tokens, after any class token"

    def as_map(self, output: Tensor) -> Tensor:
        """The output as a map [B, C, H, W]; tokens [B, T, C] lose their prefix and go back to their grid."""
        if self is Layout.NHWC:
            return output.permute(0, 3, 1, 2)
        if self is Layout.TOKENS:
            grid = math.isqrt(output.shape[1])
            prefix = output.shape[1] - grid * grid
            return output[:, prefix:].transpose(1, 2).unflatten(2, (grid, grid))
        return output


@dataclass(frozen=True)
class Stage:
    """A block of the backbone at one depth. name: its last module. shape: (C, H, W) of its map for one image."""

    name: str
    shape: tuple[int, int, int]
    layout: Layout

    @property
    def channels(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class Anatomy:
    """What one run tells of a network.

    input_shape: (C, H, W). stages: shallow to deep. classifier: name of the module that makes the logits from the
    embedding. embedding: D. num_classes: K. calls: every module call of the run, in the order in which they ended.
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]
    classifier: str
    embedding: int
    num_classes: int
    calls: tuple[Call, ...]


def examine(network: nn.Module, input_shape: tuple[int, int, int] | None = None) -> Anatomy:
    """Runs the network once on noise and finds its stages, embedding and classifier.

    Raises UserError where it cannot run on ``input_shape``, does not return logits [B, K], or where stages or
    classifier cannot be found: the message shows what was tried and how to name them.
    """
    input_shape = input_shape or default_input_shape(network)
    try:
        calls, logits = record_calls(network, input_shape)
    except (RuntimeError, ValueError, AssertionError) as error:
        channels, height, width = input_shape
        raise UserError(
            f"{type(network).__name__} cannot take images of {channels} channels and {height}x{width} pixels: "
            f"{str(error).splitlines()[0] if str(error) else repr(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{type(network).__name__} must return logits [batch, classes]; it returned {found}")
    classifier = find_classifier(network, calls, logits.shape[1])
    # What happens after the embedding is made cannot be a stage.
    body = [call for call in calls if call.ended < classifier.started]
    return Anatomy(
        input_shape=input_shape,
        stages=find_stages(network, body, square=input_shape[1] == input_shape[2]),
        classifier=classifier.name,
        embedding=weight_of(classifier.module).shape[1],
        num_classes=logits.shape[1],
        calls=tuple(calls),
    )


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear or 1x1 convolutional layer, [out, in, ...]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def find_classifier(network: nn.Module, calls: list[Call], num_classes: int) -> Call:
    """The last linear layer (or 1x1 convolution) that ran and makes ``num_classes`` numbers."""
    for call in reversed(calls):
        if isinstance(call.module, nn.Linear | nn.Conv2d) and weight_of(call.module).shape[0] == num_classes:
            return call
    raise UserError(
        f"no final classifier found in {type(network).__name__}: no linear layer or 1x1 convolution with "
        f"{num_classes} outputs ran last; end the network with nn.Linear(features, {num_classes})"
    )


def find_stages(network: nn.Module, calls: list[Call], square: bool) -> tuple[Stage, ...]:
    """The network's stages, from its own ``stage_names``, timm's ``feature_info`` or the resolutions of its maps."""
    last_call = {call.name: call for call in calls if call.name}
    channels_last = str(getattr(network, "output_fmt", "")).endswith("NHWC")
    maps = {name: stage for name, call in last_call.items() if (stage := as_stage(call, square, channels_last))}
    own_names = getattr(network, "stage_names", None)
    names = list(own_names or [name for name in timm_stages(network) if name in maps])
    if not own_names and names:
        tried = "timm's feature_info"
        names = with_weights_of_their_own(names, calls)
        # A network that keeps one resolution lists every block: equal parts of it are its stages.
        if len(names) > ISOTROPIC_STAGES and len({maps[name].shape for name in names}) == 1:
            names = [names[(part + 1) * len(names) // ISOTROPIC_STAGES - 1] for part in range(ISOTROPIC_STAGES)]
    elif not own_names:
        tried = "the resolutions of its maps (it has no feature_info)"
        names = last_at_each_resolution([call for call in calls if call.name in maps], maps)
        names = with_weights_of_their_own(names, calls)
    else:
        tried = "the names given"
    for name in names:
        if name not in maps:
            what = (
                "returns no map" if name in last_call else "is not among the modules that ran before the classifier"
            )
            raise UserError(f"stage '{name}' of {type(network).__name__} {what}: {nearest(name, maps)}")
    if len(names) < 2:
        raise UserError(
            f"{len(names)} stages found in {type(network).__name__} from {tried}; at least 2 are needed. "
            f"Name them, shallow to deep: stages=[...] takes modules that return maps, such as {some(maps)}"
        )
    return tuple(maps[name] for name in names)


def as_stage(call: Call, square: bool, channels_last: bool) -> Stage | None:
    """The call's output as a stage; None where it is not one map or one row of tokens for each image."""
    if call.shape is None or len(call.shape) not in (3, 4):
        return None
    layout = Layout.NCHW
    if len(call.shape) == 3:
        layout = Layout.TOKENS
    # Square images make square maps: a first pair of equal sides with another third is a map with channels last.
    elif channels_last or (square and call.shape[1] == call.shape[2] != call.shape[3]):
        layout = Layout.NHWC
    _, channels, height, width = layout.as_map(torch.empty(call.shape, device="meta")).shape
    return Stage(call.name, (channels, height, width), layout)


def timm_stages(network: nn.Module) -> list[str]:
    """The modules that timm's ``feature_info`` names, shallow to deep; empty for a network without one."""
    info = getattr(network, "feature_info", None) or []
    return [entry["module"] for entry in getattr(info, "info", info)]


def with_weights_of_their_own(names: list[str], calls: list[Call]) -> list[str]:
    """Leaves out names that add no layer with weights to the one before (as VGG's last pooling)."""
    weighted = [call.ended for call in calls if isinstance(call.module, nn.Conv2d | nn.Linear)]
    ended = {call.name: call.ended for call in calls}
    kept: list[str] = []
    previous = -1
    for name in names:
        if any(previous < tick <= ended[name] for tick in weighted):
            kept.append(name)
            previous = ended[name]
    return kept


def last_at_each_resolution(calls: list[Call], maps: dict[str, Stage]) -> list[str]:
    """The last module at each spatial resolution, none deeper in the module tree than naming them all takes."""
    by_size: dict[int, list[str]] = {}
    for call in before_global_pooling(calls, maps):
        size = pixels(maps[call.name])
        # What was smaller before was a side path: squeeze-and-excitation, not a stage.
        by_size = {larger: names for larger, names in by_size.items() if larger >= size}
        by_size.setdefault(size, []).append(call.name)
    depth = max((min(name.count(".") for name in names) for names in by_size.values()), default=0)
    return [[name for name in names if name.count(".") <= depth][-1] for names in by_size.values()]


def before_global_pooling(calls: list[Call], maps: dict[str, Stage]) -> list[Call]:
    """The calls that return proper maps: no rows of tokens, and nothing from global pooling on."""
    spatial = [call for call in calls if maps[call.name].layout is not Layout.TOKENS]
    pooling = [place for place, call in enumerate(spatial) if isinstance(call.module, GLOBAL_POOLING)]
    if pooling and all(
        pixels(maps[call.name]) <= pixels(maps[spatial[pooling[-1]].name]) for call in spatial[pooling[-1] :]
    ):
        spatial = spatial[: pooling[-1]]
    return [call for call in spatial if pixels(maps[call.name]) > 1 or any(True for _ in call.module.parameters())]


def pixels(stage: Stage) -> int:
    return stage.shape[1] * stage.shape[2]


def some(maps: dict[str, Stage], count: int = 8) -> str:
    """A few of the outer modules that return maps, for an error message."""
    outer = [stage for stage in maps.values() if stage.name.count(".") <= 1] or list(maps.values())
    step = max(1, len(outer) // count)
    return ", ".join(f"'{stage.name}' {list(stage.shape)}" for stage in outer[::step]) or "none: it has no maps"
