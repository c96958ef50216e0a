"""A trained network that others learn from: it stays exactly as it is, whatever is done to what holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classmates._names import name_of_class
from classmates.contracts import Batch, DataSpec, NetworkOutput
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import observe
from classmates.networks.building.embedding import with_classifier
from classmates.networks.memory.gather import gather, last_occurrence

Normalisation = tuple[Sequence[float], Sequence[float]]
"""(mean, std), [C] each, of images in 0..1."""

Size = tuple[int, int]
"""Height and width."""


class Teacher(nn.Module):
    """A trained network that is run on the student's images; always in evaluation mode, never with gradients.

    The network is no submodule. So it moves between devices with whatever holds this, but ``train()``,
    ``parameters()`` (hence the optimiser) and ``state_dict()`` (hence every checkpoint) know nothing of it.

    Images come as the student gets them. A teacher whose own normalisation or size is known gets them as it was
    trained with them; all others take them as they come.

    Args:
        network: the trained network; it is put into evaluation mode, and its parameters take no gradients any more.
        data: the classes that the student tells apart, the shape of an image and its normalisation.
        name: what messages call the teacher.
        normalisation: (mean, std) of the images that it was trained on, where that is known.
        size: (H, W) that images are brought to (bicubic, antialiased); as they come, if not given.
        classifier: whether its classifier was trained. Networks that say by their ``num_classes`` 0 that they return
            embeddings, as foundation models do, get one that nobody asks.
        class_names: of its classifier's classes, where they are known: its logits are taken in the data's order.
        logits: whether logits are learnt from. Where not, it may tell other classes apart, or none.
        cache: in training mode ``outputs`` keeps the network's outputs of each sample, of all processes' batches,
            and once it has all of them (``check_cache``) looks them up by the sample's index, for N·(K + D) floats on
            the device. Only where a sample's image is always the same.

    Attributes:
        name: what messages call it.
        architecture: its stages, at the size of the images that it gets.
        has_logits: whether its logits are of the student's classes; where not, outputs have none ([B, 0]).
        shared: whether several methods ask it for the same images in one step. Then it runs for the first of them and
            gives the others the same output, until ``forget`` is called.
        notes: what had to be assumed.

    Raises:
        UserError: it is for other classes, of which the logits are wanted, or other images, or should cache its
            outputs of images that are augmented.
    """

    local_buffers = ("logits", "embeddings", "known")  # every process learns of every batch
    scale: Tensor
    shift: Tensor
    order: Tensor
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
        size: Size | None = None,
        classifier: bool = True,
        class_names: Sequence[str] | None = None,
        logits: bool = True,
        cache: bool = False,
    ):
        super().__init__()
        if cache:
            require_same_images(data)
        self.name = name
        self.size = size
        shape = seen_shape(data, size)
        try:
            if getattr(network, "num_classes", None) == 0:
                network, classifier = with_classifier(network, data.num_classes, shape), False
            self.architecture = inspect_network(network, shape)
        except UserError as error:
            require_channels(name, entrance(network), shape)
            raise UserError(f"teacher '{name}': {error} (teacher_image_size brings them to another size)") from error
        classes = self.architecture.num_classes if classifier else 0
        others = other_classes(classes, class_names, data)
        if logits:
            require_classes(name, others)
        self.has_logits = not others
        order = class_order(class_names, data) if self.has_logits else []
        self.reordered = order != sorted(order)
        texts = assumptions(others, self.reordered, size, normalisation, data)
        self.notes = [f"teacher '{name}' {text}" for text in texts]
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64), persistent=False)
        # In a tuple, which torch does not look into: see the docstring.
        self._hidden = (network.eval().requires_grad_(False),)
        scale, shift = renormalise(normalisation, data)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        # By sample index; in no checkpoint, for the teacher can be asked again.
        samples, width = len(data.labels) if cache else 0, data.num_classes if self.has_logits else 0
        self.register_buffer("logits", torch.zeros(samples, width), persistent=False)
        self.register_buffer("embeddings", torch.zeros(samples, self.architecture.embedding), persistent=False)
        self.register_buffer("known", torch.zeros(samples, dtype=torch.bool), persistent=False)
        self.knows_all = False
        self.caches = cache
        self.shared = False
        self._latest: tuple[Tensor, NetworkOutput] | None = None

    @property
    def network(self) -> nn.Module:
        return self._hidden[0]

    @torch.no_grad()
    def forward(self, images: Tensor) -> NetworkOutput:
        """Return the teacher's output of images [B, C, H, W], normalised as the student's are."""
        if not self.shared:
            return self._run(images)
        if self._latest is None or self._latest[0] is not images:
            self._latest = images, self._run(images)
        return self._latest[1]

    def forget(self) -> None:
        """Let go of what is shared within a step: the next may have other images in the same tensor."""
        self._latest = None

    def _run(self, images: Tensor) -> NetworkOutput:
        images = images * self.scale + self.shift
        if self.size is not None and images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True)
        output = observe(self.network, self.architecture, images)
        if self.has_logits and not self.reordered:
            return output
        return output._replace(logits=output.logits[:, self.order])  # of other classes none

    @torch.no_grad()
    def outputs(self, batch: Batch) -> NetworkOutput:
        """Return its logits and embedding of each image of a batch, from the cache where that has them; no stages."""
        if self.knows_all:
            return NetworkOutput(self.logits[batch.indices], self.embeddings[batch.indices], ())
        output = self(batch.images)
        if self.caches and self.training:
            self.store(batch.indices, output)
        return output._replace(stages=())

    def store(self, indices: Tensor, output: NetworkOutput) -> None:
        """Keep the outputs of the samples of all processes' batches."""
        indices = gather(indices)
        last = last_occurrence(indices)
        for memory, value in ((self.logits, output.logits), (self.embeddings, output.embedding)):
            memory.index_copy_(0, indices, gather(value.to(memory.dtype))[last])
        self.known[indices] = True

    def check_cache(self) -> None:
        """See whether the outputs of all samples are known; the host waits for the device, so not in a step."""
        self.knows_all = self.caches and bool(self.known.all())

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Teacher:
        """Do what ``to()``, ``cuda()`` and the like ask for, to the hidden network as well."""
        self.network._apply(fn, *args, **options)
        return super()._apply(fn, *args, **options)


def seen_shape(data: DataSpec, size: Size | None) -> tuple[int, int, int] | None:
    """Return (C, H, W) of the images that a teacher gets; None where nothing is known of them."""
    if size is None or data.input_shape is None:
        return data.input_shape
    return (data.input_shape[0], *size)


def entrance(network: nn.Module) -> int | None:
    """Return the channels of the images that a network's first convolution takes; None for one without any."""
    return next((one.in_channels for one in network.modules() if isinstance(one, nn.Conv2d)), None)


def require_channels(name: str, taken: int | None, shape: tuple[int, int, int] | None) -> None:
    """Raise UserError where a teacher takes images of other channels than those of a shape, if both are known."""
    if taken is not None and shape is not None and taken != shape[0]:
        channels = "1 channel" if taken == 1 else f"{taken} channels"
        raise UserError(
            f"teacher '{name}' is for images of {channels}; these have {shape[0]}: train one on these images"
        )


def tells(classes: int) -> str:
    """Say how many classes a teacher tells apart."""
    return f"tells {classes} classes apart" if classes else "has no classifier"


def class_order(names: Sequence[str] | None, data: DataSpec) -> list[int]:
    """Return the number that a teacher has for each class of the data, -1 for none; the same where one has no names.

    Names that are the numbers, as images without names of classes have them, are none.
    """
    numbered = [str(number) for number in range(data.num_classes)]
    if names is None or data.class_names is None or numbered in (list(names), list(data.class_names)):
        return list(range(data.num_classes))
    numbers = {name_of_class(name): number for number, name in enumerate(names)}
    return [numbers.get(name_of_class(name), -1) for name in data.class_names]


def other_classes(classes: int, names: Sequence[str] | None, data: DataSpec) -> str:
    """Say why a teacher's classes, 0 without a classifier, are not those of the data; empty where they may be."""
    if classes != data.num_classes:
        return f"{tells(classes)} but the data have {data.num_classes}"
    order = class_order(names, data)
    if data.class_names is not None and -1 in order:
        return f"was trained on other classes: it does not know '{data.class_names[order.index(-1)]}'"
    return ""


def assumptions(
    others: str, reordered: bool, size: Size | None, normalisation: Normalisation | None, data: DataSpec
) -> Iterator[str]:
    """Say in what a teacher's classes and images differ from the student's, or are not known to agree."""
    if others:
        yield f"{others}: it teaches by its embeddings and maps"
    if reordered:
        yield "has the classes of the data in another order: its logits are taken by their names"
    if size is not None and data.input_shape is not None and size != data.input_shape[1:]:
        own = "x".join(map(str, data.input_shape[1:]))
        yield f"gets the images at {size[0]}x{size[1]} pixels; the student has them at {own}"
    if normalisation is not None and data.mean is None:
        yield (
            f"was trained on images of mean {normalisation[0]} and std {normalisation[1]}; how these images were "
            "normalised is not known (DataSpec's mean and std), so it gets them as they come"
        )


def require_classes(name: str, others: str) -> None:
    """Raise UserError where a teacher's classes are others, so that it has no logits to teach."""
    if others:
        raise UserError(
            f"teacher '{name}' {others}: train a teacher on these data, give one for their classes, or take a method "
            "that learns from embeddings or maps alone (RKD, CRD and others: docs/methods.md)"
        )


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
