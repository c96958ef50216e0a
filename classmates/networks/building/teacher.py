"""A trained network that others learn from: it stays exactly as it is, whatever is done to what holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import observe
from classmates.networks.building.embedding import with_classifier
from classmates.networks.memory.gather import gather, last_occurrence

Normalisation = tuple[Sequence[float], Sequence[float]]
"""(mean, std), [C] each, of images in 0..1."""

CHECKS = 16
"""The most checks, in N images, of whether a cache is complete; each makes the host wait for the device."""


class TeacherOutputs(NamedTuple):
    """A teacher's outputs of a batch. logits: [B, K]. embedding: [B, D]."""

    logits: Tensor
    embedding: Tensor


class Teacher(nn.Module):
    """A trained network that is run on the student's images; always in evaluation mode, never with gradients.

    The network is no submodule. So it moves between devices with whatever holds this, but ``train()``,
    ``parameters()`` (hence the optimiser) and ``state_dict()`` (hence every checkpoint) know nothing of it.

    Images come as the student gets them. A teacher whose own normalisation is known gets them as it was trained with
    them; all others take them as they come.

    Args:
        network: the trained network; it is put into evaluation mode, and its parameters take no gradients any more.
        data: the classes that student and teacher tell apart, the shape of an image and its normalisation.
        name: what messages call the teacher.
        normalisation: (mean, std) of the images that it was trained on, where that is known.
        cache: in training mode ``outputs`` keeps the network's outputs of each sample, of all processes' batches,
            and once it has all of them looks them up by the sample's index, for N·(K + D) floats on the device. Only
            where a sample's image is always the same.

    Attributes:
        name: what messages call it.
        architecture: its stages, at the size of these images.
        has_classifier: whether it was trained to classify; the logits of a network that returns embeddings, which
            says so by ``num_classes`` 0, are those of a classifier drawn at random, and mean nothing.
        notes: what had to be assumed.

    Raises:
        UserError: it is for other classes or other images, or should cache its outputs of images that are augmented.
    """

    local_buffers = ("logits", "embeddings", "known")  # every process learns of every batch
    scale: Tensor
    shift: Tensor
    logits: Tensor
    embeddings: Tensor
    known: Tensor

    def __init__(
        self,
        network: nn.Module,
        data: DataSpec,
        *,
        name: str = "given",
        normalisation: Normalisation | None = None,
        cache: bool = False,
    ):
        super().__init__()
        if cache:
            require_same_images(data)
        self.name = name
        self.notes: list[str] = []
        self.has_classifier = getattr(network, "num_classes", None) != 0
        try:
            if not self.has_classifier:
                network = with_classifier(network, data.num_classes, data.input_shape)
            self.architecture = inspect_network(network, data.input_shape)
        except UserError as error:
            raise UserError(f"teacher '{name}': {error}") from error
        if self.architecture.num_classes != data.num_classes:
            raise UserError(
                f"teacher '{name}' tells {self.architecture.num_classes} classes apart but the data have "
                f"{data.num_classes}: train a teacher on these data, or give one for their classes"
            )
        # In a tuple, which torch does not look into: see the docstring.
        self._hidden = (network.eval().requires_grad_(False),)
        if normalisation is not None and data.mean is None:
            self.notes.append(
                f"teacher '{name}' was trained on images of mean {normalisation[0]} and std {normalisation[1]}; how "
                "these images were normalised is not known (DataSpec's mean and std), so it gets them as they come"
            )
        scale, shift = renormalise(normalisation, data)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        # By sample index; in no checkpoint, for the teacher can be asked again.
        samples = len(data.labels) if cache else 0
        self.register_buffer("logits", torch.zeros(samples, data.num_classes), persistent=False)
        self.register_buffer("embeddings", torch.zeros(samples, self.architecture.embedding), persistent=False)
        self.register_buffer("known", torch.zeros(samples, dtype=torch.bool), persistent=False)
        self.knows_all = False
        self.until_check = samples
        """The number of images before the next check whether all are known."""
        self.caches = cache

    @property
    def network(self) -> nn.Module:
        return self._hidden[0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> NetworkOutput:
        """Return the teacher's output of images [B, C, H, W], normalised as the student's are."""
        return observe(self.network, self.architecture, images * self.scale + self.shift)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Return its logits and embedding of each image of a batch, from the cache where that has them."""
        if self.knows_all:
            return TeacherOutputs(self.logits[batch.indices], self.embeddings[batch.indices])
        output = self(batch.images)
        if self.caches and self.training:
            self.store(batch.indices, output)
        return TeacherOutputs(output.logits, output.embedding)

    def store(self, indices: Tensor, output: NetworkOutput) -> None:
        """Keep the outputs of the samples of all processes' batches."""
        indices = gather(indices)
        last = last_occurrence(indices)
        for memory, value in ((self.logits, output.logits), (self.embeddings, output.embedding)):
            memory.index_copy_(0, indices, gather(value.to(memory.dtype))[last])
        self.known[indices] = True
        self.until_check -= len(indices)
        if self.until_check <= 0:
            unknown = int((~self.known).sum())
            self.knows_all = unknown == 0
            self.until_check = max(unknown, len(self.known) // CHECKS)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Teacher:
        """Do what ``to()``, ``cuda()`` and the like ask for, to the hidden network as well."""
        self.network._apply(fn, *args, **options)
        return super()._apply(fn, *args, **options)


def require_same_images(data: DataSpec) -> None:
    """Raise UserError where a sample's image differs from epoch to epoch, so that no output of it can be kept."""
    if data.augmented:
        raise UserError(
            "the teacher's outputs cannot be cached: the images are augmented, so a sample looks different in every "
            "epoch; switch the augmentation off (--augmentation.crop_padding 0 --augmentation.flip false) or leave "
            "cache out (in Python: DataSpec's augmented says whether images vary)"
        )


def renormalise(normalisation: Normalisation | None, data: DataSpec) -> tuple[Tensor, Tensor]:
    """Return (a, b) such that a·x + b is normalised as for the teacher where x is as in the data: [C, 1, 1] each."""
    if normalisation is None or data.mean is None or data.std is None:
        return torch.ones(()), torch.zeros(())
    mean, std = (torch.tensor(numbers, dtype=torch.float64) for numbers in normalisation)
    data_mean, data_std = (torch.tensor(numbers, dtype=torch.float64) for numbers in (data.mean, data.std))
    if len(mean) != len(data_mean):
        raise UserError(f"the teacher is for images of {len(mean)} channels; these have {len(data_mean)}")
    scale, shift = data_std / std, (data_mean - mean) / std
    return scale.float().view(-1, 1, 1), shift.float().view(-1, 1, 1)
