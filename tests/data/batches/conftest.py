"""Images in memory and in files, and the batches that loaders and samplers make of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import ClassPairs, ClassUniform, Overlapping, Shuffled, Triplets
from classmates.data.parts import ImageData, Split

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 0.2)
WITH_REPLACEMENT = Triplets(disjoint=False)
LABELS = torch.arange(6).repeat(20)  # 120 images of 6 classes
INNER = [Shuffled(), Triplets(), WITH_REPLACEMENT, ClassPairs(), ClassUniform(), Overlapping()]


def in_memory(count=30, side=8, flip=True):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    split = Split(torch.arange(count) % 3, images, class_names=("a", "b", "c"))
    return ImageData("random", 3, (side, side), MEAN, STD, split, None, split, flip=flip)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    paths = []
    for number in range(18):
        height, width = generator.integers(60, 90, 2)
        pixels = generator.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).resize((int(width), int(height))).save(paths[-1])
    split = Split(torch.arange(18) % 3, paths=tuple(paths), class_names=("a", "b", "c"))
    return ImageData("files", 3, (48, 48), MEAN, STD, split, None, split)


def train(data, sampler=None, augmentation=Augmentation(), epoch=0, seed=0, **options):
    loader = train_loader(
        data, sampler or EpochSampler(Shuffled(), data.train.labels, 6), augmentation, seed=seed, **options
    )
    loader.set_epoch(epoch)
    return list(loader)


def pixels(images):
    """Back to 0..255."""
    return (images * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)) * 255


def by_index(batches):
    return {int(index): image for batch in batches for index, image in zip(batch.indices, batch.images, strict=True)}


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.targets is other.targets is None
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch[:3], other[:3], strict=True))


def differ(batches, others):
    return any(not torch.equal(batch.images, other.images) for batch, other in zip(batches, others, strict=True))


@pytest.fixture(params=["memory", "files"])
def data(request, streamed):
    return streamed if request.param == "files" else in_memory()


def batches_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)
