"""Networks whose output is the embedding: without a classifier for use, with one beside it for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from classmates._own_code import is_file_name
from classmates.errors import UserError, first_line
from classmates.networks.backbone.architecture import find_classifier
from classmates.networks.backbone.probe import default_input_shape, record_calls, sample_images, silent
from classmates.networks.backbone.stages import timm_stages
from classmates.networks.building.build import Output, build_model

Shape = tuple[int, int, int]


def build_network(name: str, output: Output, num_classes: int, **arguments: Any) -> nn.Module:
    """Build a network as ``build_model`` does, without a classifier where its output is to be the embedding.

    A class in a Python file is built with one all the same, which ``without_classifier`` then takes out.
    """
    leave_out = output == "embedding" and not is_file_name(name)
    return build_model(name, 0 if leave_out else num_classes, **arguments)


def without_classifier(network: nn.Module, num_classes: int, input_shape: Shape | None = None) -> nn.Module:
    """Take the classifier out of a network, in place: what it returns is then the embedding, [B, D].

    A network has a classifier if it returns ``num_classes`` numbers and does not say, as timm's do by their attribute
    ``num_classes``, that it has none. Without one it is left as it is.

    Raises:
        UserError: it cannot run on ``input_shape``, or returns no embedding.
    """
    input_shape = input_shape or default_input_shape(network)
    if getattr(network, "num_classes", None) != 0 and width_of(network, input_shape) == num_classes:
        calls, _ = record_calls(network, input_shape)
        parent, _, child = find_classifier(network, calls, num_classes).name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
        width_of(network, input_shape)
    network.num_classes = 0  # type: ignore[assignment]
    return network


def width_of(network: nn.Module, input_shape: Shape) -> int:
    """Return how many numbers a network gives of an image; UserError where it gives no row of them."""
    channels, height, width = input_shape
    try:
        with silent(network):
            output = network(sample_images(network, input_shape))
    except Exception as error:  # anything may come out of a forward; all of it concerns the user's own network
        raise UserError(
            f"{type(network).__name__} cannot take images of {channels} channels and {height}x{width} pixels: "
            f"{first_line(error)}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(
            f"{type(network).__name__} must return logits or an embedding, [batch, numbers]; it returned {found}"
        )
    return int(output.shape[1])


class Classified(nn.Module):
    """A network that returns embeddings, and a linear classifier of them that lives for its training alone.

    Args:
        body: the network, which is deployed without the classifier.
        features: D, what it returns of an image.
        num_classes: K.
    """

    def __init__(self, body: nn.Module, features: int, num_classes: int):
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(features, num_classes)
        # What its stages are called, seen from here.
        self.stage_names = tuple(f"body.{name}" for name in getattr(body, "stage_names", None) or ())
        self.feature_info = [{"module": f"body.{name}"} for name in timm_stages(body)]
        self.output_fmt = getattr(body, "output_fmt", "")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, [B, K]."""
        return self.classifier(self.body(images))


def with_classifier(network: nn.Module, num_classes: int, input_shape: Shape | None = None) -> nn.Module:
    """Return a network whose output is the embedding with a new classifier after it; one with it as it is.

    A classifier of the network's own is taken out, in place.

    Raises:
        UserError: as ``without_classifier``.
    """
    if isinstance(network, Classified):
        return network
    input_shape = input_shape or default_input_shape(network)
    body = without_classifier(network, num_classes, input_shape)
    weight = next(body.parameters(), torch.empty(0))
    return Classified(body, width_of(body, input_shape), num_classes).to(weight.device)
