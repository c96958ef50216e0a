"""Image files as a student was tested on them."""

from __future__ import annotations

import torch
from torch import Tensor

from classmates.data.augmentation import normalise
from classmates.data.parts import ImageFile
from classmates.data.readers.images import decode, stack
from classmates.data.readers.jpeg import decode_fast
from classmates.data.resizing import crop_middle, fit
from classmates.runs.student import StudentCard


def read(path: ImageFile, card: StudentCard) -> Tensor:
    """Read an image file as the student was tested on them, but for the normalisation: [H, W, C], uint8."""
    channels, height, width = card.input_shape
    if not isinstance(card.resize, int):
        return stack([fit(decode(path, channels), card.resize)])[0]
    pixels = crop_middle(decode_fast(path, channels), card.resize, (height, width), card.interpolation)
    return pixels.permute(1, 2, 0)


def prepared(pixels: Tensor, card: StudentCard, device: torch.device) -> Tensor:
    """Return pixels [N, H, W, C] in uint8 as the student takes them: normalised, [N, C, H, W], float32."""
    mean, std = (torch.tensor(values, device=device) for values in (card.mean, card.std))
    return normalise(pixels.to(device), mean, std, torch.contiguous_format)
