"""Hashes by which the images of a data set are known again."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch
from torch import Tensor

from classmates.data.parts import Split
from classmates.data.readers.paths import Paths
from classmates.data.readers.webdataset import Members


def digest(*parts: str | bytes | Tensor) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of several parts; a tensor counts by its numbers."""
    whole = hashlib.sha256()
    for part in parts:
        content: Any = os.fsencode(part) if isinstance(part, str) else part
        if isinstance(part, Tensor):
            content = part.flatten().view(torch.uint8).numpy()
        whole.update(len(content).to_bytes(8, "big"))
        whole.update(content)
    return whole.hexdigest()[:16]


def split_hash(split: Split) -> str:
    """Hash the labels, and the pixels in memory or else each file's name and size.

    Of images that are neither, as the Hub's are, the labels are all that is looked at.
    """
    if split.images is not None:
        return digest(split.labels, split.images)
    if isinstance(split.paths, Paths | Members):
        return digest(split.labels, "\n".join(split.paths.described()))
    return digest(split.labels)
