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
    tables = []
    for network in networks:
        steps = {
            f"{network}, {words}": TrainingStep(
                Baseline,
                network,
                batch,
                precision=precision,
                memory_format="channels_last",
                faster=faster,
                size=size,
                samples=1000,
            )
            for words, (precision, faster) in WAYS.items()
            if precision == "32-true" or has_bfloat16(device())
        }
        tables.append(interleave(steps, rounds=rounds))
    without = "" if has_bfloat16(device()) else " This device has no bfloat16 arithmetic: float32 alone."
    write(
        pd.concat(tables),
        "depthwise",
        out,
        f"A step of plain networks with depthwise convolutions on 3x{size}x{size} images at batch {batch}, channels "
        "last: in float32, in bfloat16 as PyTorch takes it, and with the gradients of training/depthwise.py. Ratios "
        f"are to float32.{without}",
    )
