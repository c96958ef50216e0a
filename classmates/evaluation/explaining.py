"""The places of an image that speak for its class: Grad-CAM, on any backbone.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (ICCV 2017).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from classmates._files import slug, whole_file
from classmates._progress import bar
from classmates.errors import UserError
from classmates.evaluation.reading import prepared, read
from classmates.networks.backbone.architecture import inspect_network
from classmates.networks.backbone.observe import hooked
from classmates.networks.backbone.stages import Stage
from classmates.runs.student import StudentCard

BATCH = 16
"""Images at a time."""
SMALLEST = 224
"""The least that the shorter side of a picture has; smaller images are enlarged."""
COVER = 0.6
"""How much of a picture the colours cover where the map is at its largest."""


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return L = ReLU(Σ_k α_k A^k) with α_k = mean over all places of ∂y/∂A^k (equations 1 and 2).

    Args:
        maps: A, a layer's maps, [B, K, H, W].
        gradients: of the score y of a class, before the softmax, by the maps, [B, K, H, W].

    Returns:
        [B, H, W], not below 0.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1).relu()


def map_and_gradient(network: nn.Module, stage: Stage, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return a stage's maps and the gradients of the classes' logits by them, [B, K, H, W] each. classes: [B]."""
    leaves: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad(), hooked(network, {stage.name: keep}):
        scores = network(images).gather(1, classes[:, None]).sum()
    (gradients,) = torch.autograd.grad(scores, leaves[-1:], allow_unused=True)
    leaf = leaves[-1].detach()
    size = images.shape[-2], images.shape[-1]
    gradients = torch.zeros_like(leaf) if gradients is None else gradients
    return stage.as_map(leaf, size), stage.as_map(gradients, size)


def explanations(
    network: nn.Module, stages: tuple[Stage, ...], images: Tensor, classes: Tensor
) -> tuple[Tensor, str]:
    """Return the Grad-CAM of the deepest stage on whose maps the classes depend, [B, H, W], and its name.

    The classifier of a transformer often looks at the class token alone: the last stage's tokens of places have no
    gradient then, and the stage before it is taken.

    Args:
        network: in eval mode.
        stages: of its architecture, shallow to deep.
        images: [B, C, H, W].
        classes: [B], the number of the class to explain of each.

    Raises:
        UserError: the classes depend on no stage's maps.
    """
    for stage in reversed(stages):
        maps, gradients = map_and_gradient(network, stage, images, classes)
        if gradients.any() and min(maps.shape[2:]) > 1:
            return grad_cam(maps, gradients), stage.name
    raise UserError(
        f"{type(network).__name__} cannot be explained: the classes depend on no map of more than one place of its "
        f"stages ({', '.join(stage.name for stage in stages)})"
    )


def overlay(pixels: np.ndarray, heat: Tensor) -> Image.Image:
    """Return an image with a map laid over it: from its own colours, where the map is 0, to warm ones.

    pixels: [H, W, C] uint8, 1 or 3 channels. heat: [h, w], not below 0; its largest value is taken for 1.
    """
    height, width = pixels.shape[:2]
    times = max(1.0, SMALLEST / min(height, width))
    size = round(width * times), round(height * times)
    picture = Image.fromarray(pixels.repeat(3 // pixels.shape[2], axis=2)).resize(size, Image.Resampling.BICUBIC)
    coarse = (heat / heat.max().clamp(min=1e-12))[None, None].cpu()
    share = F.interpolate(coarse, size=size[::-1], mode="bilinear", align_corners=False)[0, 0].numpy()
    colours = 255 * np.asarray(matplotlib.colormaps["inferno"](share))[..., :3]
    cover = COVER * share[..., None]
    return Image.fromarray(((1 - cover) * np.asarray(picture) + cover * colours).round().astype(np.uint8))


def write_explanations(
    folder: Path, network: nn.Module, card: StudentCard, files: list[Any], logits: Tensor, device: torch.device
) -> list[str]:
    """Write ``NUMBER-FILE-CLASS.png`` for each image into a folder: the places that speak for its class.

    files: N images that can be read. logits: [N, K], theirs.

    Returns:
        Notes.
    """
    stages = inspect_network(network, card.input_shape).stages
    network.requires_grad_(False)
    classes, used = logits.argmax(dim=1), ""
    for start in bar(range(0, len(files), BATCH), "explaining", "batch"):
        pixels = torch.stack([read(file, card) for file in files[start : start + BATCH]])
        told = classes[start : start + BATCH].to(device)
        heats, used = explanations(network, stages, prepared(pixels, card, device), told)
        for row, heat in enumerate(heats):
            number = start + row
            name = card.class_names[int(classes[number])]
            stem = f"{number:0{len(str(len(files)))}d}-{slug(Path(files[number]).stem)}-{slug(name)}"
            with whole_file(folder / f"{stem}.png") as path:
                overlay(pixels[row].numpy(), heat).save(path)
    return [f"{len(files)} pictures in {folder}: what speaks for the class, by Grad-CAM of '{used}'"]
