"""Teachers by what the user calls them: the folder of a run, the name of a model with its weights, or a module."""

from __future__ import annotations

import copy
from pathlib import Path

import timm
from torch import nn

from classmates._own_code import is_file_name
from classmates.contracts import DataSpec
from classmates.errors import UserError, nearest
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.building.build import build_model
from classmates.networks.building.teacher import Normalisation, Teacher, require_same_images
from classmates.networks.building.weights import load_pretrained
from classmates.runs.student import load_student


def make_teacher(
    source: str | Path | nn.Module,
    data: DataSpec,
    *,
    weights: str | Path | None = None,
    trust_code: bool = False,
    cache: bool = False,
) -> Teacher:
    """Make the teacher that ``source`` names.

    Args:
        source: the folder of a finished run; a name of timm's or of this package's, with its ``weights`` or else
            timm's published ones (downloaded); FILE.py:CLASS, which may load its weights itself; or a module, of
            which a copy is made, so that yours stays as it is.
        data: the classes that student and teacher tell apart, the shape of an image and its normalisation.
        weights: for a name: the file of its weights (safetensors, or a state dict).
        trust_code: run the Python file of a run whose model is one.
        cache: see ``Teacher``.

    Raises:
        UserError: there is no such teacher, it has no weights, is for other classes or other images; or it should
            cache its outputs of images that are augmented.
    """
    if cache:
        require_same_images(data)  # before anything is downloaded
    network, normalisation = find_teacher(source, data, weights, trust_code=trust_code)
    name = type(source).__name__ if isinstance(source, nn.Module) else str(source)
    return Teacher(network, data, name=name, normalisation=normalisation, cache=cache)


def find_teacher(
    source: str | Path | nn.Module, data: DataSpec, weights: str | Path | None, *, trust_code: bool
) -> tuple[nn.Module, Normalisation | None]:
    """Return the network that ``source`` means, and the normalisation it was trained with where that is known."""
    by_name = isinstance(source, str) and (is_file_name(source) or timm.is_model(source))
    if weights is not None and not by_name:
        raise UserError(f"teacher_weights '{weights}' are for a teacher that is the name of a model, not {source!r}")
    if isinstance(source, nn.Module):
        return copy.deepcopy(source), None
    if Path(source).is_dir():
        network, card = load_student(source, trust_code=trust_code)
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
    """Build one of timm's models with its published weights; UserError where it has none, or none for these data."""
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
    """Load a teacher's weights; UserError unless all of them are used as they are."""
    if not Path(weights).is_file():
        raise UserError(f"teacher_weights: there is no file '{weights}'")
    shape = data.input_shape or inspect_network(network).input_shape
    if changed := load_pretrained(network, weights, shape):
        raise UserError(
            f"teacher '{name}' cannot take the weights in '{weights}' as they are: {'; '.join(changed)}; the data "
            f"have {data.num_classes} classes and {shape[0]} channels"
        )
