"""A network by name: one of timm's (ours are among them), or a class in the user's own Python file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import timm
from timm.models import build_model_with_cfg
from torch import nn

import classmates.models  # noqa: F401  (registers the project's own networks with timm)
from classmates._own_code import WHATEVER, is_file_name, load_class
from classmates.errors import UserError, unknown

OF_BUILDERS = {
    *("name", "output", "num_classes"),
    *inspect.signature(timm.create_model).parameters,
    *inspect.signature(build_model_with_cfg).parameters,
}
"""Arguments of ours and of timm's builders and not of a network: among them all by which timm loads something."""

Output = Literal["logits", "embedding"]
"""What a network returns of an image."""


def build_model(
    name: str, num_classes: int, in_chans: int = 3, pretrained: bool = False, **model_args: Any
) -> nn.Module:
    """Build a network for ``num_classes`` classes and images of ``in_chans`` channels.

    Args:
        name: a timm name (``resnet32``, ``mobilenetv3_small_100``, ``resnet18.a1_in1k``), or
            ``path/to/file.py:Class``: the file is run, and the class (or function) called as
            ``Class(num_classes=..., **model_args)``, with ``in_chans=...`` too if its signature takes it.
        pretrained: start from timm's weights for this name (downloaded); a file's class is told so if its signature
            has an argument of that name.
        **model_args: of the network, handed on as they are (``drop_path_rate``, ``img_size``, ...); none by which
            timm would load anything.

    Raises:
        UserError: unknown name or one that timm would load from elsewhere, no such file or class, an argument that
            is not the network's, a file or constructor that fails, not an ``nn.Module``.
    """
    constructor: Callable[..., object]
    if is_file_name(name):
        constructor = load_class("model", name)
        if _takes(constructor, "in_chans"):
            model_args["in_chans"] = in_chans
        if pretrained and "pretrained" in inspect.signature(constructor).parameters:
            model_args["pretrained"] = True
    else:
        check_model_name(name)
        check_model_args(model_args)
        constructor = timm.create_model
        model_args |= {"model_name": name, "pretrained": pretrained, "in_chans": in_chans}
    try:
        network = constructor(num_classes=num_classes, **model_args)
    except WHATEVER as error:  # all of it concerns the model the user named
        raise UserError(f"model '{name}' could not be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model '{name}' gave a {type(network).__name__}; it must give a torch.nn.Module")
    return network


def sized(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments that make a model of one image size only, as most transformers of timm's, take (H, W)."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    own = config is None or not config.fixed_input_size or tuple(config.input_size[1:]) == tuple(size)
    return {} if own else {"img_size": list(size)}


def check_model_name(name: str) -> None:
    """Raise UserError for a name that is neither one of timm's (ours included) nor a class in a file.

    Timm's names may say after a dot which of its published weights are meant.
    """
    if is_file_name(name):
        load_class("model", name)
    elif not timm.is_model(name):
        raise unknown("model", name, timm.list_models())
    elif "." in name and name not in (tagged := timm.list_pretrained(f"{name.partition('.')[0]}.*")):
        raise unknown("weights of a model", name, tagged)


def check_model_args(arguments: Mapping[str, Any]) -> None:
    """Raise UserError for an argument of those who build networks: only those of the network itself are handed on.

    By others timm would load weights, which are a pickle in some of its versions, or connect to an address; and they
    may come from the card of a run that somebody else made.
    """
    for name in arguments:
        if name in OF_BUILDERS:
            raise UserError(
                f"model_args: '{name}' is no argument of the network: its classes are those of the data, and weights "
                "are given by pretrained or model_weights"
            )


def _takes(function: Callable[..., object], argument: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)
