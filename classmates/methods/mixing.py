"""The check that a method can be trained on images that are mixed of two classes."""

from __future__ import annotations

from classmates.data.augmentation import Augmentation
from classmates.errors import UserError
from classmates.methods.base import Method


def check_mixing(method: Method, augmentation: Augmentation) -> None:
    """Raise UserError where the augmentation mixes images and a term of the method loses its meaning by that."""
    mixing = augmentation.mixing
    why = (method.task.against_mixing() or method.against_mixing()) if mixing else None
    if why is not None:
        options = " and ".join(f"{name}={alpha:g}" for name, alpha in mixing.items())
        raise UserError(
            f"{options}: {type(method).__name__} cannot be trained on images mixed of two classes, for {why}; leave "
            f"{'it' if len(mixing) == 1 else 'them'} out"
        )
