"""Pretrained weights from a local file into any network; only classifier and input channels may differ."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv, clean_state_dict
from torch import Tensor, nn

from classmates._names import utf8_path
from classmates.errors import UserError
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.building.foreign_weights import why_unreadable, without_prefix

UNDER = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training checkpoints have the weights, an average of them first, as timm looks for them."""


AVERAGED = "n_averaged"
"""The counter that ``torch.optim.swa_utils.AveragedModel`` keeps beside the weights."""


class Changes(NamedTuple):
    """Sentences on what was not taken over as it is: names and sizes, the classifier, the first convolution."""

    converted: list[str]
    classifier: list[str]
    first: list[str]


def load_pretrained(network: nn.Module, file: str | Path, input_shape: tuple[int, int, int]) -> list[str]:
    """Load a checkpoint of the same architecture (safetensors, or a PyTorch state dict, without running any code).

    A classifier for other classes, or one that the file does not have, is left as it is, fresh; a first convolution
    for another number of channels is adapted (colours summed as timm does, grey divided among colours), and what in a
    transformer depends on the size of images is resampled by timm.

    Args:
        network: with the names of timm or torchvision, whichever wrote the file.
        file: what they published, or a training checkpoint with the weights under "state_dict" or "model".
        input_shape: (C, H, W) of the images at hand.

    Returns:
        What was not taken over as it is, one sentence each.

    Raises:
        UserError: no such file, a damaged one, or weights of another network (named, with both shapes).
    """
    return [note for notes in load_weights(network, file, input_shape, "model_weights") for note in notes]


def load_weights(network: nn.Module, file: str | Path, input_shape: tuple[int, int, int], option: str) -> Changes:
    """Load a checkpoint as ``load_pretrained`` does, and tell the kinds of changes apart.

    option: the name of the option that named the file, for messages.
    """
    if not Path(file).is_file():
        raise UserError(f"{option}: there is no file '{file}'")
    try:
        found = read_weights(Path(file))
    except Exception as error:  # whatever a damaged or foreign file makes the reader do
        why = why_unreadable(Path(file), error)
        raise UserError(f"{option}: '{file}' is damaged or no file of weights: {why}") from error
    wanted = network.state_dict()
    found, told = without_prefix(found, wanted, Path(file))
    found, resampled = _as_timm_converts(network, found)
    if getattr(network, "num_classes", None) == 0:
        classifier = _leave_classifier_out(found, wanted)
    else:
        classifier = _keep_classifier(found, wanted, inspect_network(network, input_shape).classifier)
    changes = Changes([*told, *resampled], classifier, _adapt_input(found, wanted))
    load_matching(network, found, str(file))
    return changes


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; whatever it holds, no code in it is run.

    Raises:
        Exception: it is damaged, or no file of weights; what readers raise has no common type.
    """
    if file.suffix == ".safetensors":
        with utf8_path(file) as readable:
            return load_file(readable)
    found = torch.load(file, map_location="cpu", weights_only=True)
    weights = next((found[key] for key in UNDER if isinstance(found.get(key), Mapping)), found)
    weights = {name: value for name, value in weights.items() if name != AVERAGED}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"its '{name}' is no tensor")
    return clean_state_dict(weights)


def load_matching(network: nn.Module, found: Mapping[str, Tensor], source: str) -> None:
    """Load weights that must be exactly this network's and finite.

    Raises:
        UserError: they are not, with the names and shapes.
    """
    require_matching(network, found, source)
    if not_finite := [name for name, value in found.items() if not value.isfinite().all()]:
        raise UserError(
            f"'{source}' holds numbers that are not finite (first in {not_finite[0]}): the training that it comes "
            "from has diverged; train again with a lower --lr"
        )
    network.load_state_dict(found)


def require_matching(network: nn.Module, found: Mapping[str, Tensor], source: str) -> None:
    """Raise UserError with names and shapes where weights are not exactly this network's."""
    wanted = network.state_dict()
    problems = [
        *(f"{name} is missing" for name in wanted if name not in found),
        *(f"{name} is not in the network" for name in found if name not in wanted),
        *(
            f"{name} is {tuple(found[name].shape)}, the network's is {tuple(wanted[name].shape)}"
            for name in wanted
            if name in found and isinstance(wanted[name], Tensor) and found[name].shape != wanted[name].shape
        ),
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise UserError(f"'{source}' does not fit the network {type(network).__name__}: {shown}")


def _as_timm_converts(network: nn.Module, found: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a file's weights under timm's names, for images of the network's size, and what was resampled.

    timm has such a function for each family of models whose published files have other names or sizes.
    """
    module = sys.modules[type(network).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None) if module.__name__.startswith("timm.") else None
    if convert is None:
        return found, []
    try:
        converted = dict(convert(dict(found), network))
    except Exception:  # whatever it makes of another network's weights, which load_matching will name
        return found, []
    resampled = [
        f"'{name}' was resampled from {tuple(found[name].shape)} to {tuple(value.shape)}"
        for name, value in converted.items()
        if name in found and found[name].shape != value.shape
    ]
    return converted, resampled


def _keep_classifier(found: dict[str, Tensor], wanted: Mapping[str, Tensor], classifier: str) -> list[str]:
    """Return sentences where the network's own classifier stays, for the file has none, or one for other classes.

    Where it is for other classes, so are other heads beside it (of a transformer that learnt from a teacher).
    """
    weight = f"{classifier}.weight"
    new = {}
    if weight not in found:
        new[classifier] = "the file has none"
    elif found[weight].shape != wanted[weight].shape:
        sizes = len(found[weight]), len(wanted[weight])
        both = {name: (found[name], value) for name, value in wanted.items() if name in found and value.ndim > 1}
        heads = [name for name, (theirs, own) in both.items() if (len(theirs), len(own)) == sizes]
        new = {head.removesuffix(".weight"): f"the file's is for {sizes[0]} classes" for head in heads}
    names = [f"{head}.{kind}" for head in new for kind in ("weight", "bias")]
    found |= {name: _small(wanted[name]) for name in names if name in wanted}
    return [f"the classifier '{head}' is new: {whose}" for head, whose in new.items()]


def _leave_classifier_out(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Remove the weights of the one layer that a network without a classifier lacks, where there is but one."""
    more = [name for name in found if name not in wanted]
    layers = {name.rpartition(".")[0] for name in more}
    weight = found.get(f"{next(iter(layers), '')}.weight")
    if len(layers) != 1 or weight is None or weight.ndim not in (2, 4) or set(weight.shape[2:]) - {1}:
        return []
    for name in more:
        del found[name]
    return [f"the file's classifier '{layers.pop()}' is left out"]


def _small(parameter: Tensor) -> Tensor:
    """Draw a new classifier's parameter: see ``learnt.begin_small``."""
    if parameter.ndim == 1:
        return torch.zeros_like(parameter)
    return (2 * torch.rand_like(parameter) - 1) * parameter[0].numel() ** -0.5


def _adapt_input(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return the first convolution, and those beside it, made fit for the images' channels."""
    shapes = {name: (found[name].shape, weight.shape) for name, weight in wanted.items() if name in found}
    shapes = {name: both for name, both in shapes.items() if len(both[0]) == len(both[1]) == 4}
    first = next(iter(shapes), "")
    if not first or shapes[first][0][1] == shapes[first][1][1]:
        return []
    channels = (shapes[first][0][1], shapes[first][1][1])
    beside = [name for name, (one, other) in shapes.items() if (one[1], other[1]) == channels]
    for name in beside:
        if channels[0] == 1:  # which timm does not adapt: grey images in colour then give what they gave in grey
            found[name] = found[name].repeat(1, channels[1], 1, 1) / channels[1]
        else:
            found[name] = adapt_input_conv(channels[1], found[name])
    more = f" and {len(beside) - 1} beside it" if len(beside) > 1 else ""
    return [f"the first convolution '{first}'{more} was adapted from {channels[0]} to {channels[1]} channels"]
