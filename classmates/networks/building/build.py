"""A network by name: one of timm's (ours are among them), or a class in the user's own Python file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import timm
from torch import nn

import classmates.models  # noqa: F401  (registers the project's own networks with timm)
from classmates.errors import UserError, unknown

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
        pretrained: start from timm's weights for this name (downloaded); a file's class has none.
        **model_args: handed on as they are (``drop_path_rate``, ``img_size``, ...).

    Raises:
        UserError: unknown name, no such file or class, a file or constructor that fails, not an ``nn.Module``.
    """
    constructor: Callable[..., object]
    if is_file_name(name):
        if pretrained:
            raise UserError(f"model '{name}' has no pretrained weights: only timm's models do; drop `pretrained`")
        constructor = load_class(name)
        if _takes(constructor, "in_chans"):
            model_args["in_chans"] = in_chans
    else:
        check_model_name(name)
        constructor = timm.create_model
        model_args |= {"model_name": name, "pretrained": pretrained, "in_chans": in_chans}
    try:
        network = constructor(num_classes=num_classes, **model_args)
    except Exception as error:  # anything may come out of a constructor; all of it concerns the model the user named
        raise UserError(f"model '{name}' could not be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model '{name}' gave a {type(network).__name__}; it must give a torch.nn.Module")
    return network


def sized(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the arguments that make a model of one image size only, as most transformers of timm's, take (H, W)."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return {"img_size": size} if config is not None and config.fixed_input_size else {}


def check_model_name(name: str) -> None:
    """Raise UserError for a name that is neither one of timm's (ours included) nor a class in a file."""
    if is_file_name(name):
        load_class(name)
    elif not timm.is_model(name):
        raise unknown("model", name, timm.list_models())


def is_file_name(name: str) -> bool:
    """Return whether a model's name means a Python file and not one of timm's models."""
    return name.endswith(".py") or ".py:" in name


def load_class(name: str) -> Callable[..., object]:
    """Return the class that ``path/to/file.py:Class`` names; runs the file.

    Raises:
        UserError: the class is not named, there is no such file or class, or the file fails when run.
    """
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        raise UserError(f"model '{name}' names a file but no class in it: write '{name}:YourClass'")
    if not Path(file).is_file():
        raise UserError(f"model '{name}': there is no file '{file}' (seen from {Path.cwd()})")
    module = _run_file(Path(file))
    found = getattr(module, attribute, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise unknown(f"class in {file}", attribute, own)
    return found


def _run_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"classmates_model_{file.stem}", file)
    assert spec is not None  # a name that ends in .py always has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look a class's module up by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise UserError(
            f"model file '{file}' could not be run: {type(error).__name__}: {error} "
            "(modules beside it are found if their folder is in PYTHONPATH)"
        ) from error
    return module


def _takes(function: Callable[..., object], argument: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)
