"""Worse images of the same things, by which to judge how far a student can be trusted on photos worse than its own.

Six corruptions at five severities, after Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019), with the constants of its ImageNet-C; darkness, which it lacks, is added.
Blur, which is in pixels of an image 224 wide, shrinks with the image, down to what CIFAR-10-C has. The others are
harder on images of CIFAR's size than CIFAR-10-C, whose constants are milder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from classmates.tasks.protocol import Scores


def gaussian_noise(images: Tensor, deviation: float) -> Tensor:
    """Return images [B, C, H, W] in 0..1 with noise of this deviation, which depends on each image's pixels alone."""
    seeds = [crc32(pixels.numpy()) for pixels in (images * 255).round().to(torch.uint8).cpu().contiguous()]
    drawn = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return images + deviation * torch.stack(drawn).to(images.device)


def gaussian_blur(images: Tensor, deviations: tuple[float, float]) -> Tensor:
    """Return images out of focus.

    deviations: of the blur, in pixels: on an image whose shorter side is 224, which shrinks with it, and the least.
    """
    shorter = min(images.shape[-2:])
    sigma = max(deviations[0] * shorter / 224, deviations[1])
    size = min(2 * ceil(4 * sigma) + 1, 2 * shorter - 1)
    return functional.gaussian_blur(images, [size, size], [sigma, sigma])


def darkness(images: Tensor, factor: float) -> Tensor:
    """Return images with this part of their light."""
    return images * factor


def contrast(images: Tensor, factor: float) -> Tensor:
    """Return images with this part of their difference from their own mean colour."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + factor * (images - mean)


def pixelate(images: Tensor, factor: float) -> Tensor:
    """Return images as they look with this part of their pixels in each direction."""
    height, width = images.shape[-2:]
    coarse = [max(int(height * factor), 1), max(int(width * factor), 1)]
    fewer = functional.resize(images, coarse, antialias=True)
    return functional.resize(fewer, [height, width], functional.InterpolationMode.NEAREST_EXACT)


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Return images as JPEG of this quality, 1 to 100, keeps them."""
    kept = functional.jpeg((images * 255).round().to(torch.uint8).cpu(), int(quality))
    return kept.to(images.device) / 255


CORRUPTIONS: Mapping[str, tuple[Callable[[Tensor, Any], Tensor], Sequence[Any]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "gaussian_blur": (gaussian_blur, ((1, 0.4), (2, 0.6), (3, 0.7), (4, 0.8), (6, 1.0))),
    "darkness": (darkness, (0.6, 0.45, 0.3, 0.2, 0.1)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": (jpeg, (25, 18, 15, 10, 7)),
}
"""Each corruption by name, with its constants at severities 1 to 5."""


def corrupted(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Iterator[tuple[str, Tensor]]:
    """Yield the name ("jpeg/3") and the images of each corruption at each severity.

    Args:
        images: [B, C, H, W], prepared as the network takes them, and so are those that are yielded, of 8-bit pixels.
        mean, std: by which they were normalised, a number a channel, of which there are one or three.
    """
    shift, scale = (torch.tensor(values, device=images.device)[:, None, None] for values in (mean, std))
    pixels = (images * scale + shift).clamp(0, 1)
    for name, (corrupt, constants) in CORRUPTIONS.items():
        for severity, constant in enumerate(constants, start=1):
            worse = (corrupt(pixels, constant).clamp(0, 1) * 255).round() / 255
            yield f"{name}/{severity}", (worse - shift) / scale


def by_corruption(scores: Mapping[str, Scores]) -> dict[str, list[Scores]]:
    """Return scores that are named as :func:`corrupted` names images as a list a corruption, from severity 1 on."""
    found: dict[str, list[Scores]] = {}
    for name, each in scores.items():
        found.setdefault(name.partition("/")[0], []).append(each)
    return found
