"""Published weights: whether they are at hand, and how images have to be prepared for them."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import timm
from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.models import PretrainedCfg
from torch import nn

TIMEOUT = 3.0
"""Seconds to wait for the Hub before it counts as out of reach."""


class Preparation(NamedTuple):
    """The preparation of images for trained weights: mean and deviation by channel, in 0..1, and interpolation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def has_published_weights(name: str) -> bool:
    """Return whether timm knows weights for a model of this name, wherever they are."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return config is not None and bool(config.has_weights)


def published_classes(name: str) -> int | None:
    """Return how many classes a model's published weights tell apart; None where timm knows none."""
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None else int(config.num_classes)


def out_of_reach(name: str) -> str | None:
    """Return why a model's published weights cannot be had now; None where they are cached or the Hub answers."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return "timm knows none"
    for file in ("model.safetensors", "pytorch_model.bin"):
        if config.hf_hub_id and isinstance(try_to_load_from_cache(config.hf_hub_id, file), str):
            return None
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in its cache"
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # those of its HTTP library, which is another one from version to version
        return f"{constants.ENDPOINT} does not answer ({type(error).__name__})"
    return None


def preparation_for(model: str | nn.Module) -> Preparation | None:
    """Return how images were prepared for a model's published weights; None where timm does not say.

    model: a name, or a network that timm built.
    """
    config = timm.get_pretrained_cfg(model) if isinstance(model, str) and timm.is_model(model) else None
    if isinstance(model, nn.Module) and isinstance(said := getattr(model, "pretrained_cfg", None), dict):
        known = {entry.name for entry in fields(PretrainedCfg)}
        config = PretrainedCfg(**{name: value for name, value in said.items() if name in known})
    if config is None or not config.has_weights:
        return None
    return Preparation(tuple(config.mean), tuple(config.std), str(config.interpolation))
