"""Small networks with depthwise convolutions in float32 and in bfloat16, with PyTorch's gradients and with ours."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.harness import device, interleave, write
from benchmarks.training_step import TrainingStep
from classmates._machine import has_bfloat16
from classmates.methods import Baseline

NETWORKS = ("tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv3_small_100")
WAYS = {"float32": ("32-true", True), "bfloat16": ("bf16-mixed", False), "bfloat16, ours": ("bf16-mixed", True)}


def main(out: Path, quick: bool) -> None:
    networks, size, batch, rounds = (NETWORKS[-1:], 32, 8, 2) if quick else (NETWORKS, 128, 24, 9)
    write(
        pd.concat([in_turn(network, size, batch, rounds) for network in networks]),
        "depthwise",
        out,
        f"A step of plain networks with depthwise convolutions on 3x{size}x{size} images at batch {batch}, channels "
        "last: in float32, in bfloat16 as PyTorch takes it, and with training/faster_convolutions.py. Ratios are to "
        f"float32.{without_bfloat16()}",
    )


def in_turn(network: str, size: int, batch: int, rounds: int) -> pd.DataFrame:
    """Time a plain network's step in each of the ways, as far as the device has them."""
    steps = {
        f"{network}, {size} pixels, {way}": TrainingStep(
            Baseline,
            network,
            batch,
            precision=precision,
            memory_format="channels_last",
            faster=faster,
            size=size,
            samples=1000,
        )
        for way, (precision, faster) in WAYS.items()
        if precision == "32-true" or has_bfloat16(device())
    }
    return interleave(steps, rounds=rounds)


def without_bfloat16() -> str:
    """Return what a table says where the device has no bfloat16 arithmetic."""
    return "" if has_bfloat16(device()) else " This device has no bfloat16 arithmetic: float32 alone."
