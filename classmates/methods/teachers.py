"""Teachers by what the user calls them: the folder of a run, the name of a model with its weights, or a module."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import timm
from timm.models import PretrainedCfg
from torch import nn

from classmates._own_code import is_file_name
from classmates.contracts import DataSpec
from classmates.errors import UserError, nearest
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.building.build import build_model, sized
from classmates.networks.building.teacher import (
    Normalisation,
    Size,
    Teacher,
    other_classes,
    require_channels,
    require_classes,
    require_same_images,
    seen_shape,
)
from classmates.networks.building.weights import load_weights
from classmates.runs.folder import read_record
from classmates.runs.hub import is_on_hub
from classmates.runs.student import load_student


class Found(NamedTuple):
    """A network that was named as a teacher, and what is known of it.

    normalisation, size: of the images that it was trained on, where they are known. classifier: whether it has one
    that was trained. class_names: in its order, where they are known. notes: what had to be changed or assumed.
    """

    network: nn.Module
    normalisation: Normalisation | None = None
    size: Size | None = None
    classifier: bool = True
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def make_teacher(
    source: str | Path | nn.Module,
    data: DataSpec,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    logits: bool = True,
    trust_code: bool = False,
    cache: bool = False,
) -> Teacher:
    """Make the teacher that ``source`` names.

    Args:
        source: the folder of a finished run; a name of timm's or of this package's, with its ``weights`` or else
            timm's published ones (downloaded); FILE.py:CLASS, which may load its weights itself; or a module, of
            which a copy is made, so that yours stays as it is.
        data: the classes that the student tells apart, the shape of an image and its normalisation.
        weights: for a name: the file of its weights (safetensors, or a state dict), those of a foundation model
            without a classifier too.
        image_size: pixels of a side that it gets images at; if not given, those that it was trained at where they are
            known, or else the student's.
        trust_code: run the Python file of a run whose model is one.
        logits, cache: see ``Teacher``.

    Raises:
        UserError: there is no such teacher, it has no weights, is for other images, or for other classes where its
            logits are wanted; or it should cache its outputs of images that are augmented.
    """
    if cache:
        require_same_images(data)  # before anything is downloaded
    if image_size is not None and image_size < 1:
        raise UserError(f"teacher_image_size={image_size}: a number of pixels, 1 or more")
    found = find_teacher(source, data, weights, image_size, logits, trust_code=trust_code)
    teacher = Teacher(
        found.network,
        data,
        name=type(source).__name__ if isinstance(source, nn.Module) else str(source),
        normalisation=found.normalisation,
        size=(image_size, image_size) if image_size is not None else found.size,
        classifier=found.classifier,
        class_names=found.class_names,
        logits=logits,
        cache=cache,
    )
    teacher.notes += found.notes
    return teacher


def find_teacher(
    source: str | Path | nn.Module,
    data: DataSpec,
    weights: str | Path | None,
    image_size: int | None,
    logits: bool,
    *,
    trust_code: bool,
) -> Found:
    """Return the network that ``source`` means, and what is known of how it was trained."""
    by_name = isinstance(source, str) and (is_file_name(source) or timm.is_model(source))
    if weights is not None and not by_name:
        raise UserError(f"teacher_weights '{weights}' are for a teacher that is the name of a model, not {source!r}")
    if isinstance(source, nn.Module):
        return Found(copy.deepcopy(source))
    if is_on_hub(source) or Path(source).is_dir():
        network, card = load_student(source, trust_code=trust_code)
        size = card.input_shape[1], card.input_shape[2]
        return Found(
            network,
            (card.mean, card.std),
            size,
            classifier=card.output == "logits",
            class_names=card.class_names,
            notes=tuple(how_good(source)),
        )
    if not by_name:
        is_path = isinstance(source, Path) or Path(source).name != source
        fix = f"`classmates train --method Baseline --out {source} ...` trains one"
        raise UserError(
            f"teacher '{source}' is neither the folder of a finished run nor the name of a model: "
            f"{fix if is_path else nearest(str(source), timm.list_models())}"
        )
    if is_file_name(str(source)):
        found = Found(build_model(str(source), data.num_classes, channels(data)))
        return found if weights is None else load_all(found, str(source), weights, data, logits)
    return by_timm_name(str(source), data, weights, image_size, logits)


def how_good(run: str | Path) -> Iterator[str]:
    """Say how good the student of a run's folder is, where its record tells: students are to be held against it."""
    record = read_record(Path(run) / "result.json")
    if record is not None and "student" in record.test:
        main, score = record.protocol.main, record.headline()
        yield f"teacher '{run}' has {main.title} {main.text(score.value)} on the test images of '{record.data}'"


def by_timm_name(
    name: str, data: DataSpec, weights: str | Path | None, image_size: int | None, logits: bool
) -> Found:
    """Build one of timm's models with weights from a file, or with its published ones."""
    config = timm.get_pretrained_cfg(name)
    arguments: dict[str, Any] = {}
    size: Size | None = config.input_size[1:] if config is not None and config.fixed_input_size else None
    if image_size is not None:
        size = image_size, image_size
        arguments = sized(name, size)
    if weights is not None:
        network = build_model(name, data.num_classes, channels(data), **arguments)
        found = load_all(Found(network, size=size), name, weights, data, logits)
        return found if found.classifier or config is None else prepared(found, name, config)
    if config is None or not config.has_weights:
        raise UserError(
            f"teacher '{name}' is the name of a model without published weights: say where they are with "
            "teacher_weights, or give the folder of a finished run"
        )
    if logits:
        require_classes(name, other_classes(config.num_classes, None, data))
    require_channels(name, len(config.mean), data.input_shape)
    network = build_model(name, config.num_classes, len(config.mean), pretrained=True, **arguments)
    return Found(network, (config.mean, config.std), size)


def prepared(found: Found, name: str, config: PretrainedCfg) -> Found:
    """Return a foundation model that gets images normalised as timm says of its published weights, with a note."""
    if not config.has_weights:
        return found
    note = f"teacher '{name}' gets images of mean {config.mean} and std {config.std}, as its published weights do"
    return found._replace(normalisation=(config.mean, config.std), notes=(*found.notes, note))


def channels(data: DataSpec) -> int:
    return data.input_shape[0] if data.input_shape is not None else 3


def load_all(found: Found, name: str, weights: str | Path, data: DataSpec, logits: bool) -> Found:
    """Load a teacher's weights; UserError unless all of it takes them, its classifier too where logits are wanted.

    Returns the same, and whether the classifier is the file's.
    """
    shape = seen_shape(data, found.size) or inspect_network(found.network).input_shape
    changes = load_weights(found.network, weights, shape, "teacher_weights")
    if changed := [*(changes.classifier if logits else []), *changes.first]:
        raise UserError(
            f"teacher '{name}' cannot take the weights in '{weights}' as they are: {'; '.join(changed)}; the data "
            f"have {data.num_classes} classes and {shape[0]} channels"
        )
    notes = tuple(f"teacher '{name}': {text}" for text in changes.converted)
    return found._replace(classifier=not changes.classifier, notes=notes)
