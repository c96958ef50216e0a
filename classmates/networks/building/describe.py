"""A network described before anything is trained: its stages, a shared trunk, its size."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from classmates._own_code import is_file_name
from classmates._shown import Shown
from classmates.contracts import DataSpec
from classmates.errors import UserError
from classmates.networks.backbone.architecture import Architecture, inspect_network
from classmates.networks.backbone.probe import default_input_shape
from classmates.networks.building.build import build_model, check_model_args, check_model_name, sized
from classmates.networks.building.complexity import count_parameters, multiply_adds
from classmates.networks.peers.peers import Peers

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Division:
    """The parts of a network that peers would share and own.

    trunk: the stage with which the trunk ends, None where nothing is shared. shared, owned: numbers of parameters,
    in the trunk and in each peer beside it.
    """

    trunk: str | None
    shared: int
    owned: int


@dataclass(frozen=True, repr=False)
class Description(Shown):
    """A network in numbers; as text, a page to read.

    name: as it was given. architecture: its stages, embedding and classifier. parameters, multiply_adds: of the whole
    network, for one image of ``architecture.input_shape``. division: what peers would share, or why they cannot.
    """

    name: str
    architecture: Architecture
    parameters: int
    multiply_adds: int
    division: Division | str

    def __str__(self) -> str:
        architecture = self.architecture
        width = max(len(stage.name) for stage in architecture.stages)
        lines = [
            f"{self.name}, for images of {_by(architecture.input_shape)} and {architecture.num_classes} classes",
            "",
        ]
        lines += [f"{'stage':<{width}}  map"]
        lines += [f"{stage.name:<{width}}  {_by(stage.shape)}" for stage in architecture.stages]
        lines += ["", f"embedding      {architecture.embedding} numbers"]
        lines += [f"classifier     {architecture.classifier or 'the network itself'}"]
        lines += [f"parameters     {self.parameters:,}"]
        lines += [f"multiply-adds  {self.multiply_adds:,}", ""]
        if isinstance(self.division, str):
            lines += [f"shared trunk   none: {self.division}"]
        elif self.division.trunk is None:
            lines += [f"shared trunk   none: {self.division.owned:,} parameters for each peer"]
        else:
            lines += [f"shared trunk   ends with '{self.division.trunk}': {self.division.shared:,} parameters"]
            lines += [f"each peer      {self.division.owned:,} parameters of its own"]
        return "\n".join(lines)


def describe(
    model: str | nn.Module,
    *,
    image_size: int | None = None,
    in_chans: int = 3,
    num_classes: int | None = None,
    share: int | str | None = None,
    stages: Sequence[str] | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> Description:
    """Show a network's stages, where peers' shared trunk would end, parameters and multiply-adds.

    The network is run once, on noise; nothing is trained or downloaded.

    Args:
        model: a name of timm's or of this package's, or FILE.py:CLASS for your own. In Python any nn.Module.
        image_size: pixels of the square image; the model's own default if not given.
        in_chans: channels of the image, 1 (grey) or 3. In Python a module has its own.
        num_classes: outputs of the classifier; if not given the model's own, or 1000 for a class of yours. In
            Python a module has its own.
        share: what peers would share: -2 all but the last two stages, a stage's name up to and including it, or
            "nothing". -2 if not given, where the network can be divided so.
        stages: names of the modules that end its stages, shallow to deep, where they are not found.
        model_args: further arguments of the model, by name, as in ``train``.

    Raises:
        UserError: an unknown model, a number of classes below 1, a network that cannot take such images or whose
            stages cannot be found, or ``share`` is given and the network cannot be divided there.
    """
    if num_classes is not None and num_classes < 1:
        raise UserError(f"num_classes={num_classes}: give 1 or more, or none for the model's own")
    check_model_args(model_args or {})
    if "in_chans" in (model_args or {}):
        raise UserError("model_args has in_chans, which describe takes itself: say --in_chans")
    if isinstance(model, str):
        check_model_name(model)
        classes = own_number_of_classes(model) if num_classes is None else num_classes
        fixed = {} if image_size is None else sized(model, (image_size, image_size))
        network = build_model(model, classes, in_chans, **{**fixed, **(model_args or {})})
    elif model_args:
        raise UserError(f"model_args are {dict(model_args)}, but the model is given as an object: leave them out")
    else:
        network = copy.deepcopy(model)
    if stages is not None:
        network.stage_names = tuple(stages)  # type: ignore[assignment]
    of_timm = isinstance(model, str) and not is_file_name(model)  # which always takes as many channels as it is told
    shape = default_input_shape(network, in_chans if of_timm else None, image_size)
    architecture = inspect_network(network, shape)
    try:
        division: Division | str = divide(network, architecture, -2 if share is None else share)
    except UserError as error:
        if share is not None:
            raise
        division = str(error)
    return Description(
        name=model if isinstance(model, str) else type(model).__name__,
        architecture=architecture,
        parameters=count_parameters(network),
        multiply_adds=multiply_adds(network, architecture.input_shape),
        division=division,
    )


def own_number_of_classes(name: str) -> int:
    """Return the number of classes that timm has for a model of this name."""
    config = None if is_file_name(name) or not timm.is_model(name) else timm.get_pretrained_cfg(name)
    return (config.num_classes if config else None) or IMAGENET_CLASSES


def divide(network: nn.Module, architecture: Architecture, share: int | str) -> Division:
    """Return what two peers of this network would share and own, as ``Peers`` would arrange them."""
    data = DataSpec(architecture.num_classes, torch.zeros(1, dtype=torch.int64), architecture.input_shape)
    with torch.random.fork_rng(devices=[]):
        peers = Peers(network, data, 2, share=share)
    owned = count_parameters(peers.networks[0])
    trunk = architecture.stages[peers.shared - 1].name if peers.shared else None
    return Division(trunk, shared=count_parameters(network) - owned, owned=owned)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
