"""A trained network that others learn from: it stays exactly as it is, whatever is done to what holds it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError, nearest
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import observe
from classmates.networks.building.build import build_model, is_file_name
from classmates.networks.building.weights import load_pretrained
from classmates.networks.memory.gather import gather, last_occurrence
from classmates.runs.student import load_student

Normalisation = tuple[Sequence[float], Sequence[float]]
"""(mean, std), [C] each, of images in 0..1."""

LOOKS = 16
"""At most so many times in N images it is looked whether all are known, for to look is to wait for the device."""


class TeacherOutputs(NamedTuple):
    """What a teacher says of a batch. logits: [B, K]. embedding: [B, D]."""

    logits: Tensor
    embedding: Tensor


class Teacher(nn.Module):
    """Shows what a trained network makes of the images; always in evaluation mode, never with gradients.

    The network is no submodule. So it moves between devices with whatever holds this, but ``train()``,
    ``parameters()`` (hence the optimiser) and ``state_dict()`` (hence every checkpoint) know nothing of it.

    Images come as the student gets them. A teacher whose own normalisation is known (a run's folder, timm's published
    weights) gets them as it was trained with them; all others take them as they come.

    Args:
        source: the folder of a finished run; a name of timm's or of this package's, with its ``weights`` or else
            timm's published ones (downloaded); FILE.py:CLASS, which may load its weights itself; or a module, of
            which a copy is made, so that yours stays as it is.
        data: the classes that student and teacher tell apart, the shape of an image and its normalisation.
        weights: for a name: the file of its weights (safetensors, or a state dict).
        cache: in training mode ``outputs`` keeps what the network says of each sample, of all processes' batches,
            and once all are known looks it up by the sample's index, for N·(K + D) floats on the device. Only where a
            sample's image is always the same.

    Attributes:
        architecture: its stages, at the size of these images.
        notes: what had to be assumed.

    Raises:
        UserError: there is no such teacher, it has no weights, is for other classes or other images; or it should
            cache its outputs for images that are augmented.
    """

    local_buffers = ("logits", "embeddings", "known")  # every process learns of every batch
    scale: Tensor
    shift: Tensor
    logits: Tensor
    embeddings: Tensor
    known: Tensor

    def __init__(
        self,
        source: str | Path | nn.Module,
        data: DataSpec,
        *,
        weights: str | Path | None = None,
        cache: bool = False,
    ):
        super().__init__()
        if cache and data.augmented:
            raise UserError(
                "the teacher's outputs cannot be cached: the images are augmented, so a sample looks different in "
                "every epoch; switch the augmentation off (--augmentation.crop_padding 0 --augmentation.flip false) "
                "or leave cache out (in Python: DataSpec's augmented says whether images vary)"
            )
        self.notes: list[str] = []
        network, normalisation = find_teacher(source, data, weights)
        name = type(source).__name__ if isinstance(source, nn.Module) else str(source)
        try:
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
        self.until_look = samples
        """How many images come before it is looked again whether all are known."""
        self.caches = cache

    @property
    def network(self) -> nn.Module:
        return self._hidden[0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> NetworkOutput:
        """The teacher's output of images [B, C, H, W], normalised as the student's are."""
        return observe(self.network, self.architecture, images * self.scale + self.shift)

    @torch.no_grad()
    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Its logits and embedding of each image of a batch, cached if it was made so."""
        if self.knows_all:
            return TeacherOutputs(self.logits[batch.indices], self.embeddings[batch.indices])
        output = self(batch.images)
        if self.caches and self.training:
            self.store(batch.indices, output)
        return TeacherOutputs(output.logits, output.embedding)

    def store(self, indices: Tensor, output: NetworkOutput) -> None:
        """Keeps what was said of the samples of all processes' batches."""
        indices = gather(indices)
        last = last_occurrence(indices)
        for memory, said in ((self.logits, output.logits), (self.embeddings, output.embedding)):
            memory.index_copy_(0, indices, gather(said.to(memory.dtype))[last])
        self.known[indices] = True
        self.until_look -= len(indices)
        if self.until_look <= 0:
            unknown = int((~self.known).sum())
            self.knows_all = unknown == 0
            self.until_look = max(unknown, len(self.known) // LOOKS)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Teacher:
        """What ``to()``, ``cuda()`` and the like come down to: the hidden network goes along."""
        self.network._apply(fn, *args, **options)
        return super()._apply(fn, *args, **options)


def find_teacher(
    source: str | Path | nn.Module, data: DataSpec, weights: str | Path | None
) -> tuple[nn.Module, Normalisation | None]:
    """The network that ``source`` means, and the normalisation it was trained with where that is known."""
    by_name = isinstance(source, str) and (is_file_name(source) or timm.is_model(source))
    if weights is not None and not by_name:
        raise UserError(f"teacher_weights '{weights}' are for a teacher that is the name of a model, not {source!r}")
    if isinstance(source, nn.Module):
        return copy.deepcopy(source), None
    if Path(source).is_dir():
        network, card = load_student(source)
        return network, (card.mean, card.std)
    if not by_name:
        raise UserError(
            f"teacher '{source}' is neither the folder of a finished run nor the name of a model "
            f"({nearest(str(source), timm.list_models())})"
        )
    name = str(source)
    if weights is None and not is_file_name(name):
        return build_published(name, data)
    network = build_model(name, data.num_classes, data.input_shape[0] if data.input_shape is not None else 3)
    if weights is not None:
        load_all(network, name, weights, data)
    return network, None


def build_published(name: str, data: DataSpec) -> tuple[nn.Module, Normalisation]:
    """One of timm's models with its published weights; UserError where it has none, or none for these data."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UserError(
            f"teacher '{name}' is the name of a model without published weights: say where they are with "
            "teacher_weights, or give the folder of a finished run"
        )
    if config.num_classes != data.num_classes:
        raise UserError(
            f"teacher '{name}' tells {config.num_classes} classes apart but the data have {data.num_classes}: train "
            "a teacher on these data and give its folder"
        )
    if data.input_shape is not None and data.input_shape[0] != len(config.mean):
        raise UserError(
            f"teacher '{name}' is for images of {len(config.mean)} channels; these have {data.input_shape[0]}"
        )
    return build_model(name, data.num_classes, len(config.mean), pretrained=True), (config.mean, config.std)


def load_all(network: nn.Module, name: str, weights: str | Path, data: DataSpec) -> None:
    """Loads a teacher's weights; UserError unless all of them are used as they are."""
    if not Path(weights).is_file():
        raise UserError(f"teacher_weights: there is no file '{weights}'")
    shape = data.input_shape or inspect_network(network).input_shape
    if changed := load_pretrained(network, weights, shape):
        raise UserError(
            f"teacher '{name}' cannot take the weights in '{weights}' as they are: {'; '.join(changed)}; the data "
            f"have {data.num_classes} classes and {shape[0]} channels"
        )


def renormalise(normalisation: Normalisation | None, data: DataSpec) -> tuple[Tensor, Tensor]:
    """(a, b) with a·x + b as the teacher knows images, for x normalised as the data are; [C, 1, 1] or scalars."""
    if normalisation is None or data.mean is None or data.std is None:
        return torch.ones(()), torch.zeros(())
    mean, std = (torch.tensor(numbers, dtype=torch.float64) for numbers in normalisation)
    data_mean, data_std = (torch.tensor(numbers, dtype=torch.float64) for numbers in (data.mean, data.std))
    if len(mean) != len(data_mean):
        raise UserError(f"the teacher is for images of {len(mean)} channels; these have {len(data_mean)}")
    scale, shift = data_std / std, (data_mean - mean) / std
    return scale.float().view(-1, 1, 1), shift.float().view(-1, 1, 1)
