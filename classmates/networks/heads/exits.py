"""Exits: a classifier of its own at every shallow stage of a network, and how a network with exits is deployed.

The parts are those of self-distillation's released code (Zhang et al., "Self-Distillation: Towards Efficient and
Compact Neural Networks", TPAMI 2021); the paper draws them without sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates.contracts import NetworkOutput
from classmates.errors import UserError
from classmates.networks.backbone.architecture import Architecture
from classmates.networks.backbone.observe import hooked, observe
from classmates.networks.backbone.stages import Stage
from classmates.networks.building.complexity import multiply_adds
from classmates.networks.heads.separable import SepConv


class Attention(nn.Module):
    """Weighs every place and channel of a map [B, C, H, W] before its exit; the backbone's own map stays as it is.

    SepConv of stride 2, BN, ReLU, bilinearly back to H x W, sigmoid, times the map. The ReLU keeps the weights
    within 0.5..1, as in the released code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(SepConv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, maps: Tensor) -> Tensor:
        return maps * F.interpolate(self.layers(maps), size=maps.shape[-2:], mode="bilinear").sigmoid()


class ExitOutputs(NamedTuple):
    """The shallow exits' outputs of a batch, shallow to deep. logits: [k − 1, B, K]. embeddings: [k − 1, B, D]."""

    logits: Tensor
    embeddings: Tensor


class ShallowExit(nn.Module):
    """One stage's attention, aligner (a ``SepConv`` per deeper stage, then pooling) and classifier.

    Args:
        widths: channels of this stage, of every deeper one but the last, and D, the size of the backbone's own
            embedding, which the exit's embedding shares.
        num_classes: K.
        attention: weigh the map first.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, *, attention: bool) -> None:
        super().__init__()
        self.attention = Attention(widths[0]) if attention else nn.Identity()
        steps = (SepConv(before, after) for before, after in pairwise(widths))
        self.aligner = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [B, K] and the embedding [B, D] of maps [B, C, H, W]."""
        embedding = self.aligner(self.attention(maps))
        return self.classifier(embedding), embedding


class ShallowExits(nn.Module):
    """An exit at each of the last ``depths`` stages of a backbone but the deepest, whose exit is the backbone's own.

    Args:
        architecture: of the backbone.
        depths: k, how many stages, from the deepest, have an exit; a backbone with fewer uses all it has.
        attention: each exit weighs its map first (TPAMI 2021) or not (Be Your Own Teacher, ICCV 2019).

    Raises:
        UserError: fewer than 2 depths.
    """

    def __init__(self, architecture: Architecture, depths: int, *, attention: bool) -> None:
        super().__init__()
        if depths < 2:
            raise UserError(f"depths={depths}: the deepest exit is the network's own, so 2 or more add at least one")
        stages = architecture.stages[-depths:]
        widths = [*(stage.channels for stage in stages[:-1]), architecture.embedding]
        self.stages = stages[:-1]
        self.exits = nn.ModuleList(
            ShallowExit(widths[place:], architecture.num_classes, attention=attention)
            for place in range(len(self.stages))
        )

    def __len__(self) -> int:
        return len(self.exits)

    def forward(self, maps: Sequence[Tensor]) -> ExitOutputs:
        """Return the exits' outputs. maps: of all the backbone's stages, shallow to deep."""
        logits, embeddings = zip(
            *(exit_(stage) for exit_, stage in zip(self.exits, maps[-len(self) - 1 : -1], strict=True)), strict=True
        )
        return ExitOutputs(torch.stack(logits), torch.stack(embeddings))

    def with_deepest(self, output: NetworkOutput) -> Tensor:
        """Return every exit's logits, shallow to deep, the backbone's own last: [k, B, K], float32."""
        return torch.cat([self(output.stages).logits, output.logits[None]]).float()


class MultiExit(nn.Module):
    """A backbone together with its exits, plain and deployable: images [B, C, H, W] → logits [k, B, K]."""

    def __init__(self, network: nn.Module, architecture: Architecture, shallow: ShallowExits) -> None:
        super().__init__()
        self.network = network
        self.shallow = shallow
        self.architecture = architecture

    def forward(self, images: Tensor) -> Tensor:
        return self.shallow.with_deepest(observe(self.network, self.architecture, images))

    def costs(self) -> list[float]:
        """Return the multiply-adds until each exit answers, exits on the way included; 1 is the plain network."""
        whole = multiply_adds(self.network, self.architecture.input_shape)
        count = len(self.shallow) + 1
        stops = [EarlyExit(self, [1.0] * place + [0.0] * (count - place)) for place in range(count)]
        return [multiply_adds(stop, self.architecture.input_shape) / whole for stop in stops]


def first_confident(confidences: Tensor, thresholds: Tensor) -> Tensor:
    """Return the first exit whose confidence exceeds its threshold; the number of exits where none does.

    confidences: [e, B], the largest probability of each exit. thresholds: [e]. Returns [B], int64.
    """
    confident = confidences > thresholds[:, None]
    return torch.where(confident.any(0), confident.int().argmax(0), len(confident))


class EarlyExit(nn.Module):
    """A network that answers each image at its first confident exit, else by the mean of all: [B, C, H, W] → [B, K].

    After an exit the network goes on with the images that have no answer yet, and stops where none is left: deeper
    stages run only for those that need them. Where something in the network reaches past a stage and wants the whole
    batch, it says ``per_image=False``: it then goes on with all images until each has its answer. For evaluation: it
    looks at the confidences on the way. Not for ``torch.compile`` or ``torch.export``.

    Args:
        exits: the backbone and its exits.
        thresholds: one an exit, shallow to deep, or one for all: the largest probability must exceed it. 0 always
            answers, 1 never. The deepest exit's decides between its own answer and the mean of all exits' logits.
        per_image: leave answered images out of what follows.

    Raises:
        UserError: another number of thresholds than exits, or one outside 0..1.
    """

    thresholds: Tensor

    def __init__(self, exits: MultiExit, thresholds: float | Sequence[float], *, per_image: bool = True) -> None:
        super().__init__()
        count = len(exits.shallow) + 1
        values = [float(thresholds)] * count if isinstance(thresholds, int | float) else list(thresholds)
        check_thresholds(values, count)
        self.exits = exits
        self.per_image = per_image
        self.register_buffer("thresholds", torch.tensor(values))

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(images)[0]

    def answer(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answers' logits [B, K], and which exit gave each, from 0, k being the mean of all: [B]."""
        answers = _Answers(len(images), self.thresholds, images.device, self.per_image)
        shallow = self.exits.shallow
        hooks: dict[str, Callable[[Tensor], Tensor]] = {
            stage.name: partial(self._try_exit, answers, exit_, stage, images)
            for exit_, stage in zip(shallow.exits, shallow.stages, strict=True)
        }
        with suppress(_AllAnswered), hooked(self.exits.network, hooks):
            answers.take(self.exits.network(images))
            answers.by_all()
        assert answers.logits is not None
        return answers.logits, answers.exits

    def _try_exit(self, answers: _Answers, exit_: nn.Module, stage: Stage, images: Tensor, output: Tensor) -> Tensor:
        logits, _ = exit_(stage.as_map(output, (images.shape[-2], images.shape[-1])))
        undecided = answers.take(logits)
        if not len(answers.rows):
            raise _AllAnswered
        return output[undecided] if self.per_image else output


@torch.no_grad()
def is_exact(exits: MultiExit, images: Tensor) -> bool:
    """Return whether a network can leave answered images out on its way and give the same answers as with them.

    Tried on two images or more, [B, C, H, W], about half of which are answered at each exit.
    """
    everyone = exits(images)
    confidences = everyone.softmax(-1).amax(-1)
    half = len(images) // 2
    middle = confidences.sort(dim=1).values[:, half - 1 : half + 1].mean(dim=1).tolist()  # no image lies on it
    chosen = first_confident(confidences, torch.tensor(middle, device=images.device))
    whole = torch.cat([everyone, everyone.mean(0, keepdim=True)])[chosen, torch.arange(len(images))]
    try:
        found = EarlyExit(exits, middle)(images)
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError):  # a network that misses the others
        return False
    return torch.allclose(found, whole, rtol=1e-3, atol=1e-4)


class _Answers:
    """The answers of a batch so far. rows: the images that have none; of them, what the exits' logits add up to."""

    def __init__(self, count: int, thresholds: Tensor, device: torch.device, per_image: bool) -> None:
        self.thresholds = thresholds.tolist()
        self.per_image = per_image
        self.rows = torch.arange(count, device=device)
        self.exits = torch.full((count,), len(self.thresholds), device=device)
        self.logits: Tensor | None = None
        self.sums: Tensor | None = None
        self.tried = 0

    def take(self, logits: Tensor) -> Tensor:
        """Take the next exit's logits of the images without an answer, or of all; return which still have none."""
        logits = logits.float() if self.per_image else logits[self.rows].float()
        if self.logits is None or self.sums is None:
            self.logits, self.sums = logits.clone(), torch.zeros_like(logits)
        self.sums = self.sums + logits
        sure = logits.softmax(-1).amax(-1) > self.thresholds[self.tried]
        self.logits[self.rows[sure]] = logits[sure]
        self.exits[self.rows[sure]] = self.tried
        self.rows, self.sums = self.rows[~sure], self.sums[~sure]
        self.tried += 1
        return ~sure

    def by_all(self) -> None:
        """Answer the rest by the mean of all exits' logits."""
        assert self.logits is not None
        assert self.sums is not None
        self.logits[self.rows] = self.sums / self.tried


class _AllAnswered(Exception):
    """The exception that ends the network's forward where nothing is left to compute."""


def check_thresholds(values: Sequence[float], count: int) -> None:
    """Raise UserError unless there is a threshold within 0..1 for each of so many exits."""
    if len(values) != count:
        raise UserError(f"{len(values)} thresholds for {count} exits: give one an exit, or one number for all")
    if not all(0 <= value <= 1 for value in values):
        raise UserError(
            f"thresholds {list(values)}: a probability is compared with each, so they lie between 0 and 1"
        )
