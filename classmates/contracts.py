"""The values that the parts exchange: a batch of images, one network's output of it, and the facts about the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from classmates.errors import UserError

if TYPE_CHECKING:
    from classmates.tasks.task import Task

Terms = dict[str, Callable[[], Tensor]]
"""The terms of a loss by name, each a function of nothing that returns a raw, unweighted scalar.

A term of weight 0 is never called.
"""


class Batch(NamedTuple):
    """One step's images.

    images: [B, C, H, W], normalised floats. labels: [B], int64 class numbers. indices: [B], int64: which training
    samples these are, the same number for the same sample in every epoch. targets: [B, K], the probability of each
    class where images are mixed of two; None where each is of the class that its label says. views: the same samples
    in several augmentations, one tensor like ``images`` for each network, where a method asks for them
    (``Method.views``), else none; the last, which is the student's, is ``images`` itself.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    targets: Tensor | None = None
    views: tuple[Tensor, ...] = ()

    @property
    def truth(self) -> Tensor:
        """The targets of the cross-entropy, or else the labels."""
        return self.labels if self.targets is None else self.targets

    def take(self, chosen: slice | Tensor) -> Batch:
        """Return the batch of some of its images."""
        targets = None if self.targets is None else self.targets[chosen]
        images, views = self.images[chosen], tuple(view[chosen] for view in self.views)
        indices = self.indices if self.indices is None else self.indices[chosen]  # where nothing is remembered
        return Batch(images, self.labels[chosen], indices, targets, views)


class NetworkOutput(NamedTuple):
    """One network's output of a batch.

    logits: [B, K]. embedding: [B, D], what enters the final classifier. stages: maps [B, C_i, H_i, W_i], one a
    stage, shallow to deep.
    """

    logits: Tensor
    embedding: Tensor
    stages: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class DataSpec:
    """The facts about the training data that a method may know before it sees the first batch.

    Args:
        num_classes: K.
        labels: [N], int64, the class of every training sample, by sample index; a list or array will do.
        input_shape: (C, H, W) of one image as the network gets it. Without it the network's own default is used
            (timm's ``pretrained_cfg``, else the channels of its first convolution at 32, 64 or 224 pixels).
        mean, std: [C], by which images in 0..1 were normalised; a teacher that was trained with others needs to know.
        task: what labels teach; classification if not given.
        class_names: [K], by class number; the classes of a teacher that has names too are found by them.
        augmented: whether a sample's image differs from epoch to epoch; where not, a teacher's outputs may be cached.
    """

    num_classes: int
    labels: Tensor
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augmented: bool = True
    task: Task | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        labels = torch.as_tensor(self.labels)
        if len(labels) and labels.is_floating_point():
            raise UserError(f"labels are {labels.dtype}: they must be class numbers, whole ones")
        object.__setattr__(self, "labels", labels.long())
        if (self.mean is None) != (self.std is None):
            raise UserError(f"mean is {self.mean} and std is {self.std}: give both or neither")
        if self.num_classes < 2:
            raise UserError(f"num_classes is {self.num_classes}; a classifier needs at least 2 classes")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise UserError(
                f"{len(self.class_names)} class_names for num_classes {self.num_classes}: give one for each"
            )
        if self.labels.ndim != 1 or len(self.labels) == 0:
            raise UserError(
                f"labels must be one class number per training sample, got shape {tuple(self.labels.shape)}"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise UserError(
                f"labels go from {low} to {high}, but num_classes is {self.num_classes}: "
                f"they must lie in 0..{self.num_classes - 1}"
            )
