"""The network that training begins with, the weights it has by then, and images prepared for them."""

from __future__ import annotations

import torch
from torch import nn

from classmates._own_code import is_file_name
from classmates.data.parts import ImageData
from classmates.methods.spec import MethodSpec
from classmates.networks.building.embedding import build_network
from classmates.networks.building.learnt import begin_small, classifier_is_new, has_learnt
from classmates.networks.building.published import preparation_for, published_classes
from classmates.networks.building.weights import load_pretrained
from classmates.training.config import RunConfig, TrainConfig


def is_own(model: str | nn.Module | None) -> bool:
    """Return whether a model is the user's own: a network that was given as an object, or a class in a file."""
    return isinstance(model, nn.Module) or (model is not None and is_file_name(model))


def brings_weights(config: TrainConfig, images: ImageData) -> bool:
    """Return whether the user's own network comes trained, as its normalisation layers show.

    A resumed run goes on as it began: an object that it has trained meanwhile is no new one.
    """
    if not is_own(config.model):
        return False
    spec = MethodSpec.of(config.method)
    name = "" if spec is None else spec.name  # a function's is known once it has made its method
    stored = config.stored(name)
    if "pretrained" in stored:
        return bool(stored["pretrained"])
    with torch.random.fork_rng(devices=[]):  # the network that is trained is drawn as if this one had not been
        return has_learnt(_built(config, images))


def begin_network(config: RunConfig, images: ImageData) -> tuple[nn.Module, list[str]]:
    """Build the network, or take the one that was given, and load its weights, with notes on what was decided.

    Raises:
        UserError: a network or weights that do not work with these data.
    """
    network, notes = _built(config, images), []
    if is_own(config.model) and config.pretrained and config.model_weights is None and not has_learnt(network):
        notes.append("pretrained true, though no normalisation layer of the network shows that it has learnt")
    if config.stages is not None:
        network.stage_names = tuple(config.stages)  # type: ignore[assignment]
    notes += begin_classifier(config, network, images)
    if config.model_weights is not None:
        notes += load_pretrained(network, config.model_weights, images.input_shape)
    return network, notes


def begin_classifier(config: RunConfig, network: nn.Module, images: ImageData) -> list[str]:
    """Let a new classifier begin small where it follows trained layers, or was drawn too large for few classes."""
    if config.recipe == "none" or config.made_task.output == "embedding":
        return []
    if is_own(config.model):
        learnt = not classifier_is_new(network, images.input_shape)
    else:
        learnt = bool(config.pretrained) and published_classes(str(config.model)) == images.num_classes
    if learnt or not begin_small(network, images.input_shape, always=config.begins_from_weights):
        return []
    if is_own(config.model):
        return ["the classifier, whose biases are all alike, is taken for new and begins small"]
    if config.begins_from_weights:
        return []
    return ["the classifier begins smaller than the network draws it, which is for many classes"]


def prepare_images(config: RunConfig, images: ImageData) -> ImageData:
    """Prepare images as those were that the weights were trained on, where training begins from published ones.

    A mean and deviation that are given go over those, and over the images' own.
    """
    if config.begins_from_weights and (how := preparation_for(config.model)):
        named = isinstance(config.model, str)
        weights = (
            "the published weights" if named else "timm's weights for such a network (--mean and --std for others)"
        )
        images = images.prepared_for(*how, weights)
    if config.mean is None or config.std is None:
        return images
    return images.normalised_by(config.mean, config.std)


def _built(config: TrainConfig | RunConfig, images: ImageData) -> nn.Module:
    """Return the network as it was given, or as it is built by its name."""
    if isinstance(config.model, nn.Module):
        return config.model
    arguments = {"in_chans": images.channels, "pretrained": bool(config.pretrained), **(config.model_args or {})}
    return build_network(str(config.model), config.made_task.output, images.num_classes, **arguments)
