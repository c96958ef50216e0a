"""Mixup and CutMix: every image of a batch mixed with another one of it, and the labels with them."""

from __future__ import annotations

import torch
from torchvision.transforms import v2

from classmates.contracts import Batch
from classmates.data.augmentation import Augmentation

MIXERS = {"mixup": v2.MixUp, "cutmix": v2.CutMix}


def mix(batch: Batch, num_classes: int, augmentation: Augmentation) -> Batch:
    """Return the batch with mixed images and with targets [B, K], the shares of the classes in each of them.

    Mixup (Zhang et al., ICLR 2018) blends each image with the one before it in the batch, CutMix (Yun et al., ICCV
    2019) puts a rectangle of that one into it; all images of a batch by the same share. With both, one of the two is
    drawn for each batch. What is drawn comes from torch's global random state. Labels and indices stay those of the
    image that each began as. All views of the images are mixed alike, so that the targets are those of each. Without
    mixing the batch is returned as it is.
    """
    mixers = [MIXERS[name](alpha=alpha, num_classes=num_classes) for name, alpha in augmentation.mixing.items()]
    if not mixers:
        return batch
    # Views lie side by side as channels of one image: one draw for all of them.
    images = torch.cat(batch.views, dim=1) if batch.views else batch.images
    images, targets = v2.RandomChoice(mixers)(images, batch.labels)
    if not batch.views:
        return batch._replace(images=images, targets=targets)
    views = images.chunk(len(batch.views), dim=1)
    return batch._replace(images=views[-1], targets=targets, views=views)
