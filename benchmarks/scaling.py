"""What large data and many GPUs cost each part of MCL and CORSD: counted from shapes and operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.harness import flops, write
from benchmarks.training_step import TrainingStep
from classmates.losses.negatives import ENOUGH_ROWS
from classmates.losses.shards import BATCHES_AT_ONCE
from classmates.methods import CORSD, MCL, Baseline

DATA = {"ImageNet-1k": 1_281_167, "ImageNet-21k": 14_197_122, "400 M images": 400_000_000}
GPUS = (8, 64, 512)
PEERS, DIMENSION, BATCH = 4, 128, 64  # of a GPU
PAIRS = PEERS * (PEERS - 1)
BFLOAT16, FLOAT32, INT64 = 2, 4, 8
PEAK_FLOPS, PEAK_BYTES = 790e12, 4.3e12  # of an H200: dense bfloat16 products and memory, a second
GB, TFLOP = 1e9, 1e12


class Network(NamedTuple):
    """What a training step of a method costs without its contrast: operations an image, and trained parameters."""

    flops: float
    parameters: int


def main(out: Path, quick: bool) -> None:
    size, names = (64, ("resnet18", "resnet18")) if quick else (224, ("resnet34", "resnet50"))
    few = partial(MCL, negatives="shared", num_negatives=1)
    mcl = count(few, names[0], size, images=2)
    banks = [bank(data, samples, gpus, mcl) for data, samples in DATA.items() for gpus in GPUS]
    write(
        pd.DataFrame(banks).set_index("data"),
        "scaling",
        out,
        f"MCL on {names[0]} at {size} pixels, M = {PEERS}, d = {DIMENSION}, {BATCH} images a GPU, a bfloat16 bank; "
        "of one GPU and step, with the default normaliser (batch) but in all_lagged_ms and all_sharded_ms (lagged). "
        f"Times are the floors at {PEAK_FLOPS / TFLOP:.0f} TFLOP/s and {PEAK_BYTES / 1e12} TB/s. Counted, not "
        "measured.",
    )
    methods = {
        f"Baseline, {names[1]}": count(Baseline, names[1], size, images=6),
        f"CORSD, {names[1]}": count(CORSD, names[1], size, images=6),
        f"MCL, {names[0]}": mcl,
    }
    rows = [
        {
            "method": name,
            "gflop_an_image": network.flops / 1e9,
            "parameters_m": network.parameters / 1e6,
            "gradients_mb": network.parameters * FLOAT32 / 1e6,
        }
        for name, network in methods.items()
    ]
    write(
        pd.DataFrame(rows).set_index("method"),
        "scaling_gradients",
        out,
        "What DistributedDataParallel reduces a step, whatever the data's size; MCL without its contrast.",
    )


def count(make: Callable, model: str, size: int, *, images: int) -> Network:
    step = TrainingStep(make, model, images, size=size, samples=1000)
    return Network(flops(step) / images, sum(one.numel() for one in step.method.parameters() if one.requires_grad))


def bank(data: str, samples: int, gpus: int, network: Network) -> dict[str, object]:
    """One row of the table. Sharded, each GPU has N/G rows and all G·B anchors: equal products, 1/G of the memory.

    ``sharded_mb``: what is gathered (embeddings, labels, indices) and added (positives, gradients, values, counts of
    negatives and twice the pairs' means) in a step; a shard is read once for every few GPUs' anchors.
    """
    whole = PEERS * samples * DIMENSION * BFLOAT16
    embeddings = gpus * BATCH * (PEERS * DIMENSION * FLOAT32 + INT64)
    sharded = gpus * BATCH * ((3 * PEERS * DIMENSION + 1) * FLOAT32 + 3 * INT64) + 2 * PAIRS * FLOAT32
    reads = math.ceil(gpus / BATCHES_AT_ONCE)
    return {
        "data": data,
        "gpus": gpus,
        "batch": gpus * BATCH,
        "steps_an_epoch": samples // (gpus * BATCH),
        "bank_gb": whole / GB,
        "shard_gb": whole / gpus / GB,
        "networks_ms": 1000 * BATCH * network.flops / PEAK_FLOPS,
        "all_tflop": contrast_flops(samples) / TFLOP,
        "all_ms": contrast_ms(samples, whole),
        "all_lagged_ms": contrast_ms(samples, whole, passes=1),
        "all_sharded_ms": contrast_ms(samples, whole / gpus * reads, passes=1),
        "auto_tflop": contrast_flops(min(samples, ENOUGH_ROWS)) / TFLOP,
        "embeddings_mb": embeddings / 1e6,
        "sharded_mb": sharded / 1e6,
    }


def contrast_ms(rows: int, read: float, *, passes: int = 2) -> float:
    """The floor of the contrast's time, so many bytes of the banks being read in each pass."""
    return 1000 * (contrast_flops(rows, passes=passes) / PEAK_FLOPS + passes * read / PEAK_BYTES)


def contrast_flops(rows: int, *, passes: int = 2) -> float:
    """Products of [M−1 anchors a sample, d] with [d, rows], for each of M banks: the similarities in every pass and,
    in the last, the gradient. The first of two is for the mean that normalises: none where that is known beforehand.
    """
    return 2 * (passes + 1) * PAIRS * BATCH * rows * DIMENSION
