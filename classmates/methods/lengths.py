"""Options that are numbers of epochs or steps, for training that is made longer or shorter."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def scaled_lengths(options: Mapping[str, Any], lengths: Collection[str], factor: float) -> dict[str, Any]:
    """Return options, those whose names are lengths times a factor."""
    return {name: scaled(value, factor) if name in lengths else value for name, value in options.items()}


def scaled(length: Any, factor: float) -> Any:
    """Return a number of epochs or steps, or a list of them, times a factor; whole, and 0 only where it was."""
    if isinstance(length, list):
        return [scaled(one, factor) for one in length]
    return max(1, round(length * factor)) if length else length
