"""A network's architecture, found in a silent run: its stages, its embedding and the classifier of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

from classmates.errors import UserError
from classmates.networks.backbone.probe import (
    Call,
    default_input_shape,
    reason,
    record_calls,
    run_in_training,
    sample_images,
    silent,
    watched,
)
from classmates.networks.backbone.stages import Stage, find_stages


@dataclass(frozen=True)
class Architecture:
    """A network's architecture, as one run shows it.

    input_shape: (C, H, W). stages: shallow to deep. classifier: name of the module that makes the logits from the
    embedding. embedding: D. num_classes: K. calls: every module call of the run, in the order in which they ended.
    """

    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]
    classifier: str
    embedding: int
    num_classes: int
    calls: tuple[Call, ...]


def inspect_network(network: nn.Module, input_shape: tuple[int, int, int] | None = None) -> Architecture:
    """Run the network once on noise and find its stages, embedding and classifier.

    Raises UserError where it has tensors without values, cannot run on ``input_shape``, does not return logits
    [B, K], or where stages or classifier cannot be found: the message shows what was tried and how to name them.
    """
    tensors = chain(network.named_parameters(), network.named_buffers())
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise UserError(
            f"{type(network).__name__} has tensors without values, such as {empty[0]} (device 'meta'): build it "
            "on a device, or load its weights with assign=True, before it is trained"
        )
    input_shape = input_shape or default_input_shape(network)
    channels, height, width = input_shape
    try:
        with watched(network) as written:
            calls, logits = record_calls(network, input_shape)
            with silent(network):
                logits_in_training = run_in_training(network, sample_images(network, input_shape))
    except Exception as error:  # anything may come out of a forward; all of it concerns the user's own network
        raise UserError(
            f"{type(network).__name__} cannot take images of {channels} channels and {height}x{width} pixels: "
            f"{reason(error)}"
        ) from error
    for mode, output in {"": logits, " in training mode": logits_in_training}.items():
        if not isinstance(output, Tensor) or output.ndim != 2:
            found = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            aux = "" if isinstance(output, Tensor) else ": build it without auxiliary outputs (aux_logits=False)"
            raise UserError(
                f"{type(network).__name__} must return logits [batch, classes]; it returned {found}{mode}{aux}"
            )
    if are_probabilities(logits):
        raise UserError(
            f"{type(network).__name__} returns probabilities (every row sums to 1), not logits: leave out the "
            "softmax at its end, which is part of the losses and of every prediction"
        )
    classifier = find_classifier(network, calls, logits.shape[1])
    # What happens after the embedding is made cannot be a stage.
    body = [call for call in calls if call.ended < classifier.started]
    return Architecture(
        input_shape=input_shape,
        stages=find_stages(network, body, (height, width), written),
        classifier=classifier.name,
        embedding=weight_of(classifier.module).shape[1],
        num_classes=logits.shape[1],
        calls=tuple(calls),
    )


def are_probabilities(outputs: Tensor) -> bool:
    """Return whether outputs [B, K] are a softmax's: of two classes or more, none below 0, rows with the sum 1."""
    sums = outputs.cpu().double().sum(dim=1)  # Apple's GPUs have no float64
    return outputs.shape[1] > 1 and bool((outputs >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())


def weight_of(module: nn.Module) -> Tensor:
    """Return the weight of a linear or convolutional layer, [out, in, ...]."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def find_classifier(network: nn.Module, calls: list[Call], num_classes: int) -> Call:
    """Return the last linear layer or convolution that ran; its kernel must be 1x1 and its outputs the logits."""
    layers = [call for call in calls if isinstance(call.module, nn.Linear | nn.Conv2d)]
    if layers:
        outputs, _, *kernel = weight_of(layers[-1].module).shape
        if outputs == num_classes and set(kernel) <= {1}:
            return layers[-1]
    found = f"is '{layers[-1].name}', {layers[-1].module}" if layers else "does not exist"
    raise UserError(
        f"no final classifier found in {type(network).__name__}: a linear layer or 1x1 convolution must make its "
        f"{num_classes} logits, but the last one {found}; end the network with nn.Linear(features, {num_classes})"
    )
