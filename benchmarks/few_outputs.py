"""Networks whose last convolutions have few outputs, in float32 and in bfloat16, with PyTorch's and with ours."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.depthwise import in_turn, without_bfloat16
from benchmarks.harness import write

NETWORKS = (("resnet18", 64, 48), ("resnet50", 64, 24), ("resnet18_cifar", 32, 64), ("resnet18", 128, 24))


def main(out: Path, quick: bool) -> None:
    networks, rounds = ((("resnet18", 32, 8),), 2) if quick else (NETWORKS, 9)
    tables = [in_turn(network, size, batch, rounds) for network, size, batch in networks]
    write(
        pd.concat(tables),
        "few_outputs",
        out,
        "A step of plain networks whose last convolutions have 16 outputs a channel or fewer, channels last: in "
        "float32, in bfloat16 as PyTorch takes it, and with the products of training/few_outputs.py, which training "
        "takes where the processor multiplies tiles (AMX). Batches: "
        + ", ".join(f"{batch} ({network}, {size} pixels)" for network, size, batch in networks)
        + f". Ratios are to float32.{without_bfloat16()}",
    )
