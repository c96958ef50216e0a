"""The backbone of every network here: a stem, a row of stages, pooling and a linear classifier; timm's interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx
from timm.layers import SelectAdaptivePool2d
from timm.models import checkpoint_seq
from torch import Tensor, nn

from classmates.errors import UserError


class Stage(nn.Sequential):
    """Blocks in a row whose output is one level of the feature pyramid.

    Args:
        blocks: the blocks, first to last.
        channels: of the output map.
        reduction: how many times smaller than the image the output map is, a power of two.
    """

    def __init__(self, *blocks: nn.Module, channels: int, reduction: int) -> None:
        super().__init__(*blocks)
        self.channels = channels
        self.reduction = reduction
        self.grad_checkpointing = False

    def __getitem__(self, index: int | slice) -> Any:
        """Return a block, or some of the blocks as a plain ``nn.Sequential``: part of a stage is no stage."""
        blocks = list(self)[index]
        return nn.Sequential(*blocks) if isinstance(blocks, list) else blocks

    def forward(self, features: Tensor) -> Tensor:
        """Return the stage's own map. features: the map that enters the stage, [B, C, H, W]."""
        # Here and not in the backbone, so that a hook on a stage fires once and sees what is not run again.
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint_seq(list(self), features)
        return super().forward(features)


def keep_initialization(module: nn.Module) -> None:
    """Leave the weights that torch's own constructor put in."""


@torch.fx.wrap  # a step of its own where torch.fx traces a network: there the size of the image is not known yet
def check_size(images: Tensor, reductions: dict[str, int]) -> None:
    """Raise UserError where the images [B, C, H, W] vanish at one of the steps {name: times smaller}."""
    height, width = images.shape[-2:]
    for name, reduction in reductions.items():
        if min(height, width) < reduction:
            raise UserError(
                f"images of {height}x{width} are too small for this network: nothing is left of them at {name}, "
                f"{reduction} times smaller than the image; it needs {max(reductions.values())} pixels a side"
            )


class Backbone(nn.Module):
    """stem → layer1 … layerN → (neck) → global pooling → fc.

    ``feature_info`` lists the stages, not the stem, as timm does: ``num_chs``, ``reduction``, ``module``.

    Args:
        stem: what comes before the first stage.
        stages: shallow to deep; they become ``layer1``, ``layer2``, …
        num_classes: outputs of ``fc``; 0 for no classifier: the pooled embedding is then the output.
        global_pool: timm's name of the pooling, ``"avg"`` in both papers; ``""`` for none, where there is no
            classifier either.
        neck: a step without parameters between the last stage's map and the global pooling.
        initialize: applied to every module, and again to a classifier that is put in later.

    Raises:
        UserError: for ``num_classes`` 1 or negative, a classifier without pooling, and, in ``forward``, images too
            small for the strides.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Stage],
        *,
        num_classes: int,
        global_pool: str = "avg",
        neck: Stage | None = None,
        initialize: Callable[[nn.Module], None] = keep_initialization,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.feature_info: list[dict[str, Any]] = []
        for number, stage in enumerate(stages, start=1):
            name = f"layer{number}"
            self.add_module(name, stage)
            self.feature_info.append({"num_chs": stage.channels, "reduction": stage.reduction, "module": name})
        self.neck = nn.Identity() if neck is None else neck
        self.apply(initialize)
        self.initialize = initialize
        self.num_features = stages[-1].channels
        self._reductions = {info["module"]: info["reduction"] for info in self.feature_info}
        if neck is not None:
            self._reductions["the last pooling"] = neck.reduction
        self.reset_classifier(num_classes, global_pool)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, num_classes] of images [B, C, H, W], or the embedding where there is no classifier."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the map [B, num_features, h, w] that enters the global pooling, of images [B, C, H, W]."""
        features, _ = self.forward_intermediates(images, indices=[])
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of ``forward_features``'s map, or the embedding [B, head_hidden_size] with ``pre_logits``."""
        embedding = self.global_pool(features)
        return embedding if pre_logits else self.fc(embedding)

    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return the maps of the stages, and the map that enters the global pooling.

        Args:
            images: [B, C, H, W].
            indices: which stages: all for None, the last n for a number n, else their indices, negative ones too.
            norm: of timm's interface; no network here has a norm that its last stage does not already end with.
            stop_early: do not run the stages after the last one asked for; the first result is then its map.
            output_fmt: ``"NCHW"``, the only one.
            intermediates_only: return the list of maps alone.

        Returns:
            (map, [maps]), the maps shallow to deep; with ``intermediates_only`` [maps].
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt is {output_fmt!r}; these networks give 'NCHW' only")
        check_size(images, self._reductions)
        names = [info["module"] for info in self.feature_info]
        if indices is None:
            indices = len(names)
        if isinstance(indices, int):
            indices = range(-indices, 0)
        if any(not -len(names) <= index < len(names) for index in indices):
            raise UserError(
                f"stages {list(indices)} were asked for, this network has {len(names)}: {', '.join(names)}"
            )
        wanted = {names[index] for index in indices}

        maps = []
        features = self.stem(images)
        for name in names:
            features = getattr(self, name)(features)
            if name in wanted:
                maps.append(features)
            if stop_early and len(maps) == len(wanted):
                break
        else:
            features = self.neck(features)
        return maps if intermediates_only else (features, maps)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer that makes the logits."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier in, and with ``global_pool`` another pooling before it; see the class's arguments."""
        if num_classes < 0 or num_classes == 1:
            raise UserError(
                f"num_classes is {num_classes}; a classifier needs at least 2 classes (0 leaves the classifier out)"
            )
        if num_classes and global_pool == "":
            raise UserError(
                "global_pool is '' but there is a classifier; name a pooling ('avg') or set num_classes to 0"
            )
        weight = next(self.parameters())
        self.num_classes = num_classes
        if global_pool is not None:
            pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=global_pool != "")
            self.global_pool: nn.Module = pool
            self.head_hidden_size = self.num_features * pool.feat_mult()
        self.fc = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        self.fc.apply(self.initialize).to(weight)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only each block's input and run the block again in backward: less memory, a forward more.

        As with any checkpointed BatchNorm, the running statistics then take in every batch twice.
        """
        for info in self.feature_info:
            getattr(self, info["module"]).grad_checkpointing = enable
