"""A run goes on with the images that it began with, or is told that it does not."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from classmates.data.fingerprints import split_hash
from classmates.data.parts import ImageData
from classmates.errors import UserError

TITLES = {"train": "training", "val": "validation", "test": "test"}
"""The splits as messages and checkpoints call them."""


class SameImages(Callback):
    """Keeps a hash of every part's images in the checkpoints, and compares it where a run goes on.

    Attributes:
        splits: the hash of each split.

    Raises:
        UserError: images were added, removed or changed since; those of a checkpoint without hashes are not compared.
    """

    def __init__(self, images: ImageData):
        parts = {"train": images.train, "val": images.val, "test": images.test}
        self.splits = {name: split_hash(split) for name, split in parts.items() if split is not None}
        self.hashes = {TITLES[name]: found for name, found in self.splits.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"hashes": self.hashes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        before = state["hashes"]
        changed = [part for part in {**before, **self.hashes} if before.get(part) != self.hashes.get(part)]
        if changed:
            raise UserError(
                f"the {' and the '.join(changed)} images are not those that the run began with: put them back as "
                "they were, or start another run with --out"
            )
