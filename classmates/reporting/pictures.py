"""Images as pages hold them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALL = 64
"""Pixels a side up to which an image is enlarged pixel by pixel."""


def drawable(images: NDArray[Any]) -> bool:
    """Return whether images [..., H, W, C] are grey or in colour, so that a browser can show them."""
    return images.shape[-1] in (1, 3)


def is_small(image: NDArray[Any]) -> bool:
    """Return whether an image [H, W, C] is shown larger than it is."""
    return max(image.shape[:2]) <= SMALL


def data_uri(image: NDArray[np.uint8], longest: int | None = None) -> str:
    """Return an image as an address that holds all of it.

    image: [H, W, C], of one or three channels. longest: of pixels a side, larger ones are made smaller; None leaves
    them.
    """
    drawn = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if longest is not None:
        drawn.thumbnail((longest, longest))
    file = io.BytesIO()
    drawn.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
