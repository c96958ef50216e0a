"""Runs the benchmarks, one after the other, and writes a table of each: NAME.csv and NAME.md.

    python -m benchmarks [--only contrast,steps] [--quick] [--out results/benchmarks]

The same command measures on the GPU where there is one, else on the CPU.
"""

import argparse
import importlib
import time
from pathlib import Path

from benchmarks.pinning import settle

BENCHMARKS = (
    "contrast",
    "compiling",
    "pipeline",
    "reading",
    "steps",
    "projections",
    "backbones",
    "precision",
    "depthwise",
    "few_outputs",
    "trainer",
    "few_shot",
    "gpu",
    "costs",
    "sharing",
    "scaling",
    "scale",
    "peers",
    "building",
    "starting",
)


def names(text: str) -> list[str]:
    chosen = text.split(",")
    for name in chosen:
        if name not in BENCHMARKS:
            raise argparse.ArgumentTypeError(f"unknown benchmark '{name}': there are {', '.join(BENCHMARKS)}")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=names, default=list(BENCHMARKS), help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: whether it all runs")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    for name in arguments.only:
        start = time.perf_counter()
        importlib.import_module(f"benchmarks.{name}").main(arguments.out, arguments.quick)
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    settle()
    main()
