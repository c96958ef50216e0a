"""How many images a second the loaders feed, small ones from memory and large ones from files."""

from __future__ import annotations

import tempfile
import warnings
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as usual

from benchmarks.harness import device, interleave, write
from classmates.data.augmentation import Augmentation
from classmates.data.batches.loaders import train_loader
from classmates.data.batches.samplers import EpochSampler
from classmates.data.batches.sampling import Shuffled
from classmates.data.batches.streaming import use_any_core
from classmates.data.parts import Files, ImageData, Split

BATCH = 128
WORKERS = 2
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
TO_FLOATS = (usual.ToTensor(), usual.Normalize(MEAN, STD))  # a fifth faster than the same of transforms.v2


def main(out: Path, quick: bool) -> None:
    # It counts the one core that OpenMP has bound this thread to; the workers use all.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    small_images(out, 2_000 if quick else 50_000, rounds=2 if quick else 5)
    large_images(out, 64 if quick else 512, rounds=2 if quick else 5)


def small_images(out: Path, count: int, rounds: int) -> None:
    """One epoch of CIFAR's size: padding and crop, flip, normalisation."""
    pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
    data = image_data(Split(torch.arange(count) % 10, pixels), 32)
    sampler = EpochSampler(Shuffled(), data.train.labels, BATCH)

    def ours(augmentation: Augmentation, memory_format: torch.memory_format) -> Iterable[object]:
        return train_loader(data, sampler, augmentation, seed=0, device=device(), memory_format=memory_format)

    crop = [usual.RandomCrop(32, padding=4), usual.RandomHorizontalFlip(), *TO_FLOATS]
    dataset = Transformed([Image.fromarray(image) for image in pixels.numpy()], usual.Compose(crop))
    loaders = {
        f"torchvision, {WORKERS} workers": workers(dataset),
        "in memory": ours(Augmentation(), torch.contiguous_format),
        "in memory, channels-last": ours(Augmentation(), torch.channels_last),
        "in memory, channels-last, Cutout": ours(Augmentation(cutout=8), torch.channels_last),
        "in memory, channels-last, RandAugment": ours(Augmentation(policy="RandAugment"), torch.channels_last),
    }
    frame = throughput(loaders, count, rounds)
    write(
        frame,
        "pipeline_small",
        out,
        f"An epoch of {count:,} images of 32x32 pixels in batches of {BATCH}: random crop with a padding of 4, flip, "
        "normalisation. `speedup` is against torchvision's transforms, image by image, in a DataLoader.",
    )


def large_images(out: Path, count: int, rounds: int) -> None:
    """JPEG files of photographs: an epoch through workers."""
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), count)
        data = image_data(Split(torch.arange(count) % 2, paths=Listed(paths)), 224)
        sampler = EpochSampler(Shuffled(), data.train.labels, BATCH)
        steps = [usual.RandomResizedCrop(224), usual.RandomHorizontalFlip(), *TO_FLOATS]
        loaders: dict[str, Iterable[object]] = {
            f"Pillow and torchvision, {WORKERS} workers": workers(Transformed(paths, usual.Compose(steps))),
            f"streamed, {WORKERS} workers": train_loader(
                data, sampler, Augmentation(), seed=0, num_workers=WORKERS, device=device()
            ),
        }
        note = f"An epoch of {count} JPEGs of 500x375 pixels: RandomResizedCrop to 224 pixels, flip, normalisation."
        write(throughput(loaders, count, rounds), "pipeline_large", out, note)


class Listed(list[Path]):
    """Paths as a split has them."""

    def take(self, indices: torch.Tensor) -> Files:
        return Listed(self[index] for index in indices.tolist())


class Transformed(Dataset[tuple[torch.Tensor, int]]):
    """Images, or files opened as most programs do, each through a transform."""

    def __init__(self, images: list[Image.Image] | list[Path], transform: usual.Compose) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        if isinstance(image, Path):
            with Image.open(image) as opened:
                image = opened.convert("RGB")
        return self.transform(image), 0


def workers(dataset: Dataset[tuple[torch.Tensor, int]]) -> DataLoader[tuple[torch.Tensor, int]]:
    return DataLoader(
        dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, worker_init_fn=use_any_core
    )


def image_data(train: Split, side: int) -> ImageData:
    train = replace(train, class_names=tuple("0123456789"))
    return ImageData("benchmark", 3, (side, side), MEAN, STD, train, None, train)


def photographs(folder: Path, count: int) -> list[Path]:
    """Pieces of 500x375 pixels of scikit-learn's two sample photographs, at the quality of a camera."""
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    paths = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        left, top = int(random.integers(picture.width - 500)), int(random.integers(picture.height - 375))
        paths.append(folder / f"{number}.jpg")
        picture.crop((left, top, left + 500, top + 375)).save(paths[-1], quality=92)
    return paths


def throughput(loaders: dict[str, Iterable[object]], count: int, rounds: int) -> pd.DataFrame:
    """Whole epochs of each loader against the first."""
    frame = interleave({name: partial(deque, loader, 0) for name, loader in loaders.items()}, rounds=rounds)
    frame.insert(0, "images_per_second", count / frame["median_ms"] * 1000)
    frame.insert(1, "speedup", 1 / frame["ratio"])
    return frame.drop(columns="ratio")
