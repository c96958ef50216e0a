"""The largest batch that a GPU's memory holds, found by trying steps of the method at hand."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from classmates.contracts import Batch
from classmates.data.batches.samplers import EpochSampler
from classmates.data.parts import ImageData
from classmates.errors import UserError
from classmates.methods.base import Method
from classmates.training.acceleration import FORMATS, device_type, first_device
from classmates.training.config import RunConfig
from classmates.training.optimisation import make_optimizer
from classmates.training.ranks import agreed

LEAST_STEPS = 20
"""Steps an epoch that a batch must leave: with fewer, little is learnt in an epoch however fast it is."""


def fill_memory(
    config: RunConfig, method: Method, images: ImageData, *, scale_lr: bool
) -> tuple[RunConfig, list[str]]:
    """Take the largest batch that fits, from the recipe's by doubling, with the rate that suits it, and a note.

    With s times the batch the rate is s times as high for SGD (Goyal et al., 2017) and √s times for others (Malladi
    et al., 2022). A resumed run keeps the batch and the rate that it had.

    Args:
        config: with the recipe's batch.
        method: of which steps are tried; a copy of it.
        images: the data set.
        scale_lr: whether the rate is the recipe's too; one that was given stays.

    Raises:
        UserError: there is no GPU, several processes would each try, or not even the recipe's batch fits.
    """
    device = device_type(config.accelerator)
    if device != "cuda":
        raise UserError(
            f"batch_size auto fills a GPU's memory, and this trains on {device}: give a number, or leave it out"
        )
    if stored := config.stored(type(method).__name__):
        return replace(config, batch_size=stored["batch_size"], lr=stored["lr"]), []
    if config.processes > 1 and config.on != "ray":
        raise UserError(
            "batch_size auto: each of several processes would measure for itself, and on another's GPU: give a number"
        )
    begin, most = config.batch_size, len(images.train) // LEAST_STEPS

    def fits(size: int) -> bool:
        return step_fits(config, method, images, size, first_device(device, config.devices))

    size = agreed(lambda: largest_that_fits(fits, begin, most))
    factor = size / begin
    rate = config.lr * (factor if config.optimizer.lower() == "sgd" else factor**0.5) if scale_lr else config.lr
    note = f"batch_size {size}, the largest that fits of {begin} times 1, 2, 4, ... with {LEAST_STEPS} steps an epoch"
    return replace(config, batch_size=size, lr=rate), [f"{note}; lr {rate:g}"]


def largest_that_fits(fits: Callable[[int], bool], begin: int, most: int) -> int:
    """Return the largest of ``begin`` times 1, 2, 4, ... up to ``most`` that fits.

    Raises:
        UserError: not even the first does.
    """
    if not fits(begin):
        raise UserError(
            f"batch_size auto: not even {begin} images fit into the GPU's memory: give a smaller --batch_size, "
            "--recompute all or a smaller --image_size"
        )
    size = begin
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def step_fits(config: RunConfig, method: Method, images: ImageData, size: int, device: torch.device) -> bool:
    """Return whether a step with a batch of this size fits into the device's memory: backward and optimiser too."""
    labels = images.train.labels
    positions = torch.as_tensor(next(iter(EpochSampler(method.sampling, labels, size, seed=0))))
    tried = None
    try:
        tried = copy.deepcopy(method).to(device).to(memory_format=FORMATS[config.memory_format]).train()
        noise = torch.rand(len(positions), *images.input_shape, device=device)
        noise = noise.to(memory_format=FORMATS[config.memory_format])
        views = tuple(noise.clone() for _ in range(method.views - 1))
        batch = Batch(
            noise, labels[positions].to(device), positions.to(device), views=(*views, noise) if views else ()
        )
        arguments = dict(config.optimizer_args or {})
        optimizer = make_optimizer(config.optimizer, tried.parameters(), config.lr, arguments)
        dtype = {"bf": torch.bfloat16, "16": torch.float16}.get(str(config.precision)[:2])
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            total = tried(batch).total
        total.backward()
        optimizer.step()
        return True
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        del tried
        gc.collect()
        torch.cuda.empty_cache()
