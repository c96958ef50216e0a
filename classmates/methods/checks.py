"""Checks of what methods are given: the numbers that several take as options, their networks, weights and terms."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping

from torch import Tensor, nn

from classmates.contracts import Terms
from classmates.errors import UserError
from classmates.networks.peers.peers import Peers


def check_temperature(**temperatures: float) -> None:
    """Raise UserError, naming the option, for a temperature that is not above 0, or infinite."""
    for name, value in temperatures.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name}={value}: a temperature must be above 0, and finite")


def check_share(**shares: float) -> None:
    """Raise UserError, naming the option, for a share outside 0..1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name}={value}: a share lies between 0 and 1")


def check_ramp(**lengths: int) -> None:
    """Raise UserError, naming the option, for a ramp of fewer than 0 epochs."""
    for name, value in lengths.items():
        if value < 0:
            raise UserError(f"{name}={value}: a number of epochs, 0 for none")


def check_weight(**weights: float) -> None:
    """Raise UserError, naming the option, for a weight that is negative, NaN or infinite.

    For options of another name than the term that they weigh; all other weights are checked by ``Method``.
    """
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name}={value}: a weight must be 0 or more, and finite")


def check_term_weights(kind: type, weights: Mapping[str, float]) -> None:
    """Raise UserError where a weight of a method of this class is negative, NaN or infinite.

    It names the term, and the option of the same name where there is one.
    """
    for term, weight in weights.items():
        if not 0 <= weight < math.inf:
            option = f" (option {term})" if term in inspect.signature(kind).parameters else ""
            raise UserError(
                f"{kind.__name__}: the weight of its term '{term}' is {weight}{option}: give 0 or more, and finite"
            )


def check_networks(who: str, networks: object, views: str, deploy: str) -> None:
    """Raise UserError where a method's networks are no ``Peers``, or not such as its views and its student need."""
    if not isinstance(networks, Peers):
        raise UserError(f"{who}: its networks are of type {type(networks).__name__}: give Peers(network, data)")
    if views == "own" and len(networks) == 1:
        raise UserError("views='own': a single network has no peers to see other augmentations of the images")
    if deploy == "average" and not networks.begin_alike:
        raise UserError(
            "deploy='average': only weights that began alike can be averaged: say --method.start identical"
        )


DEPTH_AT_RANDOM = ("DropPath", "StochasticDepth", "DropBlock2d")
"""Classes of timm and torchvision that leave out blocks or regions at random, with their share as drop_prob or p."""


def drops_at_random(module: nn.Module) -> bool:
    """Return whether a module leaves something out at random in training."""
    known = isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in DEPTH_AT_RANDOM
    return known and bool(getattr(module, "drop_prob", 0) or getattr(module, "p", 0))


def offered_terms(who: str, of_labels: Terms, own: Terms, weights: Mapping[str, float]) -> Terms:
    """Return the task's terms and a method's own, which take the place of those of the same name.

    Raises:
        UserError: the own ones are no dict, or there is not one term for each weight.
    """
    if not isinstance(own, Mapping):
        raise UserError(f"{who}: terms() returned {described(own)}: return a dict, a function by each term's name")
    offered = {**of_labels, **own}
    if offered.keys() != weights.keys():
        raise UserError(
            f"{who} offers terms {sorted(offered)} for weights {sorted(weights)}: give each term a weight, and each "
            "weight a term"
        )
    return offered


def computed(who: str, name: str, term: object) -> Tensor:
    """Compute a term.

    Raises:
        UserError: it is no function, or what it returns is no scalar.
    """
    if not callable(term):
        raise UserError(f"{who}: the term '{name}' is {described(term)}: give a function, such as lambda: ...")
    value = term()
    if not isinstance(value, Tensor) or value.ndim:
        raise UserError(f"{who}: the term '{name}' is {described(value)}: return a tensor of one number, of shape []")
    return value


def described(value: object) -> str:
    """Say what came in place of something else: a type, and a tensor's shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"an object of type {type(value).__name__}"
