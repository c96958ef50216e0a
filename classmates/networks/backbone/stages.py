"""A network's stages and the layout of their maps, for any timm, torchvision or own nn.Module.

Stages come, in this order, from the network's own ``stage_names`` (set it to name them yourself), from timm's
``feature_info``, or from one silent run: the last module at each spatial resolution, or, where there is but one, the
longest row of equal blocks. Nothing is traced or edited.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor, nn

from classmates.errors import UserError, nearest
from classmates.networks.backbone.probe import BATCH, Call

STEM_SHARE = 0.25  # stages that end before this share of the layers has run are but the stem of something else
ISOTROPIC_STAGES = 4  # a network of one resolution (ViT) is cut into this many stages of equal depth
GIVEN = "the names given"
GLOBAL_POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)

Size = tuple[int, int]  # height and width


class Layout(Enum):
    """The order of the axes of a module's map; every map of a NetworkOutput is NCHW."""

    NCHW = "channels first"
    NHWC = "channels last"
    TOKENS = "tokens, after any class token"

    def as_map(self, output: Tensor, image: Size, prefix: int = 0) -> Tensor:
        """Return the output as a map [B, C, H, W]; tokens [B, T, C] lose their prefix and go back to their grid.

        prefix: how many tokens at the beginning are known to be none of the grid; there may be more.
        """
        if self is Layout.NHWC:
            return output.permute(0, 3, 1, 2)
        if self is Layout.TOKENS:
            height, width = token_grid(output.shape[1] - prefix, image)
            prefix = output.shape[1] - height * width
            return output[:, prefix:].transpose(1, 2).unflatten(2, (height, width))
        return output


def token_grid(tokens: int, image: Size) -> Size:
    """Return the largest grid with an image's proportions that so many tokens fill; the rest of them is a prefix."""
    proportion = image[1] / image[0]
    height = math.isqrt(int(tokens / proportion)) + 1
    while height * round(height * proportion) > tokens:
        height -= 1
    return height, round(height * proportion)


@dataclass(frozen=True)
class Stage:
    """A block of the backbone at one depth.

    name: its last module. shape: (C, H, W) of its map for one image. prefix: how many tokens come before those of the
    grid, as far as the network says. written: whether what comes after it writes into its output (in place).
    """

    name: str
    shape: tuple[int, int, int]
    layout: Layout
    prefix: int = 0
    written: bool = False

    @property
    def channels(self) -> int:
        return self.shape[0]

    def as_map(self, output: Tensor, image: Size) -> Tensor:
        """Return its output for images of this size as maps [B, C, H, W]."""
        return self.layout.as_map(output, image, self.prefix)


def find_stages(
    network: nn.Module, calls: list[Call], image: Size, written: Collection[str] = ()
) -> tuple[Stage, ...]:
    """Find the stages by the network's ``stage_names``, timm's ``feature_info`` or the maps' resolutions.

    written: the modules whose output is written into by what comes after them.
    """
    last_call = {call.name: call for call in calls if call.name}
    channels_last = str(getattr(network, "output_fmt", "")).endswith("NHWC")
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    made = {name: as_stage(call, image, channels_last, prefix) for name, call in last_call.items()}
    maps = {name: replace(stage, written=name in written) for name, stage in made.items() if stage}
    if names := list(getattr(network, "stage_names", None) or []):
        tried = GIVEN
        check_names(network, names, maps, last_call)
    elif names := [name for name in timm_stages(network) if name in maps]:
        tried = "timm's feature_info"
        names = equal_parts(with_weights_of_their_own(names, calls), maps)
    else:
        tried = "its maps' resolutions and its rows of equal blocks (it has no feature_info)"
        making_maps = [call for call in calls if call.name in maps]
        names = with_weights_of_their_own(last_at_each_resolution(making_maps, maps), calls)
        if len(names) < 2 or ends_early(names, calls):
            names = equal_parts(row_of_blocks(making_maps, maps), maps)
    early = tried != GIVEN and len(names) >= 2 and ends_early(names, calls)
    if len(names) < 2 or early:
        raise UserError(
            f"{len(names)} stages found in {type(network).__name__} from {tried}; "
            f"{'nearly all of its layers come after them' if early else 'at least 2 are needed'}. Name them, "
            "shallow to deep: stages=[...], or network.stage_names = [...] before the method is made, takes modules "
            f"that return maps, such as {some(maps)}"
        )
    return tuple(maps[name] for name in names)


def check_names(network: nn.Module, names: list[str], maps: dict[str, Stage], ran: dict[str, Call]) -> None:
    """Raise UserError unless every name is a module that returns a map, in the order in which they run."""
    for name in names:
        if name not in maps:
            what = "returns no map" if name in ran else "is not among the modules that ran before the classifier"
            raise UserError(f"stage '{name}' of {type(network).__name__} {what}: {nearest(name, maps)}")
    in_order = sorted(set(names), key=lambda name: ran[name].ended)
    if names != in_order:
        raise UserError(f"stages {names} must be named shallow to deep, each once: {in_order}")


def as_stage(call: Call, image: Size, channels_last: bool, prefix: int = 0) -> Stage | None:
    """Return the call's output as a stage; None where it is not one map or one row of tokens for each image.

    prefix: how many tokens the network says come first, which those of a module may lack.
    """
    if call.shape is None or len(call.shape) not in (3, 4) or call.shape[0] != BATCH or 0 in call.shape:
        return None
    layout = Layout.TOKENS
    if len(call.shape) == 4:
        # A map has the proportions of the image: that tells its sides from its channels.
        first, last = stretch(call.shape[1:3], image), stretch(call.shape[2:4], image)
        if image[0] == image[1] and min(first, last) > 1:
            return None
        layout = Layout.NHWC if first < last or (first == last and channels_last) else Layout.NCHW
    grid = call.shape[1] - prefix
    if layout is not Layout.TOKENS or grid < 1 or math.prod(token_grid(grid, image)) != grid:
        prefix = 0
    _, channels, height, width = layout.as_map(torch.empty(call.shape, device="meta"), image, prefix).shape
    return Stage(call.name, (channels, height, width), layout, prefix) if height * width else None


def stretch(sides: tuple[int, ...], image: Size) -> float:
    """Return the factor between these sides' proportions and the image's, 1 where they are the same."""
    one, other = sides[0] * image[1], sides[1] * image[0]
    return max(one, other) / min(one, other)


def timm_stages(network: nn.Module) -> list[str]:
    """Return the modules that timm's ``feature_info`` names, shallow to deep; empty for a network without one."""
    info = getattr(network, "feature_info", None) or []
    return [entry["module"] for entry in getattr(info, "info", info)]


def ends_of_layers(calls: list[Call]) -> list[int]:
    """Return the time (``Call.ended``) at which each layer that holds the network's weights had run."""
    return [call.ended for call in calls if isinstance(call.module, nn.Conv2d | nn.Linear)]


def ends_early(names: list[str], calls: list[Call]) -> bool:
    """Return whether nearly all layers come after the last of these stages."""
    end = max(call.ended for call in calls if call.name == names[-1])
    layers = ends_of_layers(calls)
    return sum(layer <= end for layer in layers) < STEM_SHARE * len(layers)


def with_weights_of_their_own(names: list[str], calls: list[Call]) -> list[str]:
    """Leave out names that add no layer with weights to the one before (as VGG's last pooling)."""
    weighted = ends_of_layers(calls)
    ended = {call.name: call.ended for call in calls}
    kept: list[str] = []
    previous = -1
    for name in names:
        if any(previous < tick <= ended[name] for tick in weighted):
            kept.append(name)
            previous = ended[name]
    return kept


def last_at_each_resolution(calls: list[Call], maps: dict[str, Stage]) -> list[str]:
    """Return the last module at each spatial resolution, none deeper in the module tree than it takes to see them."""
    spatial = before_global_pooling(calls, maps)
    found: list[str] = []
    for depth in range(1 + max((call.name.count(".") for call in spatial), default=-1)):
        by_size: dict[int, str] = {}
        for call in spatial:
            if call.name.count(".") <= depth:
                size = pixels(maps[call.name])
                # What was smaller before was a side path: squeeze-and-excitation, not a stage.
                by_size = {larger: name for larger, name in by_size.items() if larger >= size}
                by_size[size] = call.name
        if len(found) >= 2 and len(by_size) <= len(found):
            break
        found = list(by_size.values())
    return found


def before_global_pooling(calls: list[Call], maps: dict[str, Stage]) -> list[Call]:
    """Return the calls that return proper maps: no rows of tokens, and nothing from global pooling on."""
    spatial = [call for call in calls if maps[call.name].layout is not Layout.TOKENS]
    pooling = [place for place, call in enumerate(spatial) if isinstance(call.module, GLOBAL_POOLING)]
    if pooling and all(
        pixels(maps[call.name]) <= pixels(maps[spatial[pooling[-1]].name]) for call in spatial[pooling[-1] :]
    ):
        spatial = spatial[: pooling[-1]]
    return [call for call in spatial if pixels(maps[call.name]) > 1 or any(True for _ in call.module.parameters())]


def row_of_blocks(calls: list[Call], maps: dict[str, Stage]) -> list[str]:
    """Find the longest row of sibling modules of one class, with weights and maps of one shape (a ViT's blocks)."""
    rows: dict[tuple[str, type[nn.Module], tuple[int, int, int]], dict[str, None]] = {}
    for call in calls:
        if any(True for _ in call.module.parameters()):
            siblings = call.name.rpartition(".")[0], type(call.module), maps[call.name].shape
            rows.setdefault(siblings, {})[call.name] = None
    return max(map(list, rows.values()), key=lambda row: (len(row), -row[0].count(".")), default=[])


def equal_parts(names: list[str], maps: dict[str, Stage]) -> list[str]:
    """Return the ends of ``ISOTROPIC_STAGES`` parts of equal depth, where the names are many blocks of one shape."""
    if len(names) <= ISOTROPIC_STAGES or len({maps[name].shape for name in names}) > 1:
        return names
    return [names[(part + 1) * len(names) // ISOTROPIC_STAGES - 1] for part in range(ISOTROPIC_STAGES)]


def pixels(stage: Stage) -> int:
    return stage.shape[1] * stage.shape[2]


def some(maps: dict[str, Stage], count: int = 8) -> str:
    """Name a few of the outer modules that return maps, for an error message."""
    outer = [stage for stage in maps.values() if stage.name.count(".") <= 1] or list(maps.values())
    step = max(1, len(outer) // count)
    return ", ".join(f"'{stage.name}' {list(stage.shape)}" for stage in outer[::step]) or "none: it has no maps"
