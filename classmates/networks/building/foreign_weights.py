"""Files of weights as other programs write them: what they are, and what to do with them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.serialization import get_unsafe_globals_in_checkpoint

from classmates.errors import UserError, first_line


def why_unreadable(file: Path, error: Exception) -> str:
    """Return why a file of PyTorch's cannot be read as weights alone, and what to do; no code in it is run."""
    try:
        objects = get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # it is damaged, or of another kind: the error says so
        objects = []
    if any(name.startswith("torch.nn.modules.") for name in objects):
        return (
            "it holds a whole network (torch.save(model)), and opening it would run whatever code it carries: write "
            "its weights alone, torch.save(model.state_dict(), FILE)"
        )
    if objects:
        return (
            f"it holds more than weights ({', '.join(sorted(objects)[:3])}), and opening it could run whatever code "
            "it carries: write its weights alone, torch.save(checkpoint['state_dict'], FILE)"
        )
    if isinstance(error, pickle.UnpicklingError):  # PyTorch's words advise to run what is in it
        return "it is a pickle of something else than weights, which opening it could run: write its weights alone"
    return first_line(error)


def without_prefix(
    found: Mapping[str, Any], wanted: Mapping[str, Any], file: Path
) -> tuple[dict[str, Any], list[str]]:
    """Return weights under the network's own names where each has the same prefix, as in checkpoints of Lightning.

    Args:
        found: the weights of the file by name.
        wanted: those of the network.
        file: for messages.

    Returns:
        The weights, and a note where a prefix was taken away.

    Raises:
        UserError: the file has the network's weights several times, under different prefixes.
    """
    matching: dict[str, int] = {}
    for name in found:
        for end in (name[place:] for place in _starts(name)):
            if end in wanted:
                prefix = name.removesuffix(end)
                matching[prefix] = matching.get(prefix, 0) + 1
    best = max(matching.values(), default=0)
    prefixes = [prefix for prefix, count in matching.items() if count == best]
    if "" in prefixes or not prefixes:
        return dict(found), []
    if len(prefixes) > 1:
        raise UserError(
            f"model_weights: '{file}' holds several such networks, under {', '.join(map(repr, prefixes))}: give the "
            "weights of one (a run's student is its student.safetensors)"
        )
    [prefix] = prefixes
    note = f"the names in {file} begin with '{prefix}', as in a checkpoint of Lightning: taken without, the rest left"
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}, [note]


def _starts(name: str) -> list[int]:
    """Return where the parts of a dotted name begin."""
    return [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
