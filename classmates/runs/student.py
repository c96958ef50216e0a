"""The trained student on disk: its weights, and a card that says what it is and how its images are prepared.

``student.safetensors`` holds the weights, under the names of the network's own ``state_dict``, and ``student.json``
the card. Neither can carry code; but a card whose ``model`` is a Python file asks for that file to be run, which is
done only where the user says so.
"""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from math import inf, isfinite
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from jsonargparse import ArgumentParser
from safetensors import SafetensorError
from torch import Tensor, nn

from classmates._files import output_file, whole_file
from classmates._names import utf8_path
from classmates._own_code import is_file_name
from classmates.data.parts import Interpolation
from classmates.errors import UserError
from classmates.networks.building.build import Output, check_model_args
from classmates.networks.building.embedding import build_network, without_classifier
from classmates.networks.building.weights import load_matching
from classmates.runs.hub import from_anywhere
from classmates.runs.preparation import steps_of
from classmates.runs.student_files import CARD, WEIGHTS
from classmates.runs.trust import check_code, found_again

LARGEST = 10_000
"""The most pixels that a side of an image may have for a network, lest a card ask for more memory than there is."""
BUILT_WITH = {"name", "num_classes", "pretrained"}
"""Arguments of ``build_model`` that are none of ``model_args``."""
UNTYPED = ("model_args", "exports")
"""The parts of a card whose values are of any type."""
FOUND = ("temperature", "exit_thresholds", "exports")
"""The parts of a card that commands add to it when training has ended."""
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""The errors of reading content that is not what was written, however deeply it is nested."""


@dataclass(frozen=True)
class StudentCard:
    """All that is needed to rebuild a student and to feed it.

    ``timm.create_model(card.model, num_classes=len(card.class_names), **card.model_args,
    checkpoint_path="student.safetensors")`` gives the same network, after ``import classmates.models`` where the
    model is one of ours; with ``num_classes=0`` where its output is the embedding.

    Args:
        model: a name that ``build_model`` takes; None for a network that was given as an object, which no name can
            rebuild.
        class_names: [K], in the order of the logits.
        input_shape: (C, H, W) of the images it takes.
        mean, std: [C], of the training images in 0..1; images are normalised by them.
        resize: how an image gets to (H, W). A single number: its shorter side gets this length, then the middle is
            cropped. (H, W) itself: it is scaled until it fills them, then the middle is cropped. ``preparation`` says
            it step by step.
        model_args: ``in_chans`` and whatever else the model was built with.
        classmates: the version that trained it.
        interpolation: by which its shorter side gets that length. Cards of earlier versions do not say: bilinear.
        code: SHA-256 of the Python file that ``model`` names; None for other models, and in cards of earlier
            versions.
        output: what it returns of an image, the logits of its classes or the embedding; class_names are then those
            that it learnt from, and it has no classifier of them.
        temperature: by which logits are divided so that probabilities are calibrated, fitted on validation images
            (``evaluate --calibrated``); None where nobody asked for it. In a file that divides them itself it is 1.
        exit_thresholds: the confidence above which each early exit answers, tuned on validation images (``export
            --what early_exit``); None where nobody asked for it.
        exports: the files that ``export --formats`` wrote and what was measured of each, by format.
    """

    model: str | None
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | tuple[int, int]
    model_args: dict[str, Any] = field(default_factory=dict)
    classmates: str = field(default_factory=lambda: version("classmates"))
    interpolation: Interpolation = "bilinear"
    code: str | None = None
    output: Output = "logits"
    temperature: float | None = None
    exit_thresholds: tuple[float, ...] | None = None
    exports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        channels = self.input_shape[0]
        if not self.class_names:
            raise ValueError("it names no class")
        if min(self.input_shape) < 1 or not all(0 < value < inf for value in self.std):
            raise ValueError(f"input_shape {self.input_shape} and std {self.std} must be above 0, and finite")
        if not all(map(isfinite, self.mean)):
            raise ValueError(f"mean {self.mean} must be finite")
        if isinstance(self.resize, int) and not 1 <= self.resize <= LARGEST:
            raise ValueError(f"resize {self.resize} must be from 1 to {LARGEST:,}")
        if max(self.input_shape) > LARGEST:
            raise ValueError(f"input_shape {self.input_shape} must be up to {LARGEST:,} pixels a side")
        if isinstance(self.resize, tuple) and self.resize != self.input_shape[1:]:
            raise ValueError(f"resize {self.resize} must be a number, or the size in input_shape {self.input_shape}")
        if own := BUILT_WITH & self.model_args.keys():
            raise ValueError(f"model_args holds {', '.join(sorted(own))}, which the card says elsewhere")
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(
                f"mean {self.mean} and std {self.std} must have one number for each of {channels} channels"
            )
        if self.output not in get_args(Output):
            raise ValueError(f"output '{self.output}' is none of {', '.join(get_args(Output))}")
        if self.temperature is not None and not 0 < self.temperature < inf:
            raise ValueError(f"temperature {self.temperature} must be above 0, and finite")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation '{self.interpolation}' is none of {', '.join(get_args(Interpolation))}")
        try:
            json.dumps(self.model_args)
        except TypeError as error:
            raise UserError(
                f"model_args must be plain numbers, strings and lists, to go into {CARD}: {error}"
            ) from error

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"preparation": self.preparation}, indent=2)

    @property
    def preparation(self) -> list[str]:
        """What is done to an image before the network gets it, step by step, for whoever feeds it elsewhere."""
        return steps_of(self.input_shape, self.resize, self.interpolation, self.mean, self.std)

    @classmethod
    def from_json(cls, text: str) -> StudentCard:
        """Return the card that :meth:`to_json` wrote.

        Raises:
            One of ``DAMAGED``: the text is anything else.
        """
        content = json.loads(text)
        content.pop("preparation", None)  # words for people, made of the rest
        # A parser of types would import what a value of any type names as a class, and read numbers into texts.
        untyped = {name: content.pop(name) for name in UNTYPED if name in content}
        if not all(isinstance(part, dict) for part in (*untyped.values(), *untyped.get("exports", {}).values())):
            raise ValueError("model_args must be names with values, and exports such names for each format")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, skip={entry.name for entry in fields(cls)} - content.keys())
        try:
            return cls(**vars(parser.parse_object(content)), **untyped)
        except ArgumentError as error:
            raise ValueError(" ".join(str(error).replace("Parser key", "").split())) from error


def save_student(folder: str | Path, network: nn.Module, card: StudentCard) -> None:
    """Write ``student.safetensors`` and ``student.json`` into a run's folder, each whole or not at all.

    A model that is a Python file is noted with its full path, so that it is found from any working directory.
    """
    if card.model is not None and is_file_name(card.model):
        file, _, name = card.model.rpartition(":")
        card = replace(card, model=f"{Path(file).resolve()}:{name}")
    with whole_file(Path(folder) / WEIGHTS) as path:
        save_weights(path, network, card)
    write_card(folder, card)


def with_findings(folder: str | Path, network: nn.Module, card: StudentCard) -> StudentCard:
    """Return a card with what was found since of the same student, which the folder has already: ``FOUND``."""
    if not (Path(folder) / WEIGHTS).is_file() or not (Path(folder) / CARD).is_file():
        return card
    try:
        found, kept = read_card(folder), read_tensors(Path(folder) / WEIGHTS)
    except UserError:  # they are about to be written anew
        return card
    own = network.state_dict()
    same = own.keys() == kept.keys() and all(torch.equal(value.cpu(), kept[name]) for name, value in own.items())
    return replace(card, **{name: getattr(found, name) for name in FOUND}) if same else card


def write_card(folder: str | Path, card: StudentCard) -> None:
    """Write ``student.json``, whole or not at all; UserError where the folder cannot be written to.

    In the Hub's cache it is a link to a file that several revisions share: it becomes a file of this one alone.
    """
    with output_file(Path(folder) / CARD, through_links=False) as path:
        path.write_text(card.to_json(), encoding="utf-8")


def read_card(run: str | Path) -> StudentCard:
    """Read the card of a finished run's student; UserError where there is no student, or the card is damaged."""
    folder = Path(run)
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"there is no trained student in '{folder}' ({name} is missing): give a finished run's folder"
            )
    try:
        return StudentCard.from_json((folder / CARD).read_text(encoding="utf-8"))
    except DAMAGED as error:
        raise UserError(f"'{folder / CARD}' is damaged or not a student's card: {error}") from error


@from_anywhere
def load_student(
    run: str | Path, network: nn.Module | None = None, *, trust_code: bool = False
) -> tuple[nn.Module, StudentCard]:
    """Load the student of a finished run, on the CPU and in eval mode, with its card.

    Args:
        run: the run's folder, or hf:OWNER/NAME of the Hub, with @REVISION as it was then.
        network: where to load the weights, for a student that was given to training as an object; else the card
            says what to build.
        trust_code: run the Python file that the card names, where the model is one.

    Raises:
        UserError: no student in the folder, a damaged file, a model that cannot be rebuilt, a Python file that is not
            trusted or not the one of training, or weights that do not fit it (named).
    """
    folder, card = Path(run), read_card(run)
    if network is None:
        if card.model is None:
            raise UserError(
                f"the student in '{folder}' was trained from a network object, which no name can rebuild: "
                "build it yourself and call load_student(run, network=my_module), in Python; evaluate, predict and "
                "export take such a network too"
            )
        if is_file_name(card.model):
            card = replace(card, model=found_again(folder, card.model, card.code))
            check_code(folder, str(card.model), card.code, trusted=trust_code)
        else:
            check_model_args(card.model_args)
        network = build_network(str(card.model), card.output, len(card.class_names), **card.model_args)
    if card.output == "embedding":
        network = without_classifier(network, len(card.class_names), card.input_shape)
    load_weights(folder / WEIGHTS, network)
    return network.eval(), card


@from_anywhere
def load_embedder(
    run: str | Path, network: nn.Module | None = None, *, trust_code: bool = False
) -> tuple[nn.Module, StudentCard]:
    """Load the student of a finished run as a network that returns embeddings, without a classifier if it has one.

    Arguments and errors as in ``load_student``; and UserError for a network in which no classifier is found.
    """
    network, card = load_student(run, network, trust_code=trust_code)
    if card.output == "logits":
        network = without_classifier(network, len(card.class_names), card.input_shape)
    return network.eval(), replace(card, output="embedding")


def save_weights(path: Path, network: nn.Module, card: StudentCard, more: Mapping[str, str] | None = None) -> None:
    """Write the network's ``state_dict`` as safetensors, with the card, and whatever more, in the file's metadata."""
    # Tied weights share memory, which safetensors refuses; copies load into any network of the same names.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    save_tensors(path, tensors, card, more)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], card: StudentCard, more: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name as ``save_weights`` does.

    Equal tensors and cards make equal files: the header has its metadata in one order, which safetensors draws.
    """
    metadata = {"format": "pt", "classmates": card.to_json(), **(more or {})}
    whole = safetensors.torch.save(dict(tensors), metadata)
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start]) | {"__metadata__": metadata}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(start - 8)
    with path.open("wb") as file:
        for part in (len(text).to_bytes(8, "little"), text, memoryview(whole)[start:]):
            file.write(part)


def load_weights(path: Path, network: nn.Module) -> None:
    """Load safetensors into a network; UserError if the file is damaged or names and shapes are not the network's."""
    load_matching(network, read_tensors(path), str(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file by name; UserError if it is damaged."""
    try:
        with utf8_path(path) as file:
            return safetensors.torch.load_file(file)
    except SafetensorError as error:
        raise UserError(f"'{path}' is damaged or not a safetensors file: {error}") from error
