"""Compares another version of this project with this one, on one machine in one run.

    git worktree add ../before COMMIT
    python -m benchmarks.before ../before [--only starting,contrast] [--rounds 3] [--quick] [--out results/benchmarks]

Every round measures both versions, each by its own benchmarks but for ``starting``, which only runs commands.
Compared are the rows that both have.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks import starting
from benchmarks.__main__ import names
from benchmarks.harness import write

HERE = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.before", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--only", type=names, default=["starting", "contrast"], help="benchmarks of both versions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, as of the benchmarks themselves")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    measured = [
        {
            when: milliseconds(tree, arguments.only, quick=arguments.quick)
            for when, tree in (("before", arguments.before), ("now", HERE))
        }
        for _ in range(arguments.rounds)
    ]
    rounds = pd.concat([pd.DataFrame(one).dropna() for one in measured], keys=range(len(measured)), names=["round"])
    rounds["ratio"] = rounds["now"] / rounds["before"]
    table = rounds.groupby(level=["table", "name"], sort=False).median()
    write(
        table.add_suffix("_ms").rename(columns={"ratio_ms": "ratio"}).assign(rounds=arguments.rounds),
        "before_and_now",
        arguments.out,
        "Another version and this one, in turn; medians over the rounds, ratio: of now to before in the same round. "
        "Of commands (starting) it is the time of all processors.",
    )


def milliseconds(tree: Path, only: Sequence[str], *, quick: bool = False) -> pd.Series:
    """Run a version's benchmarks and return the milliseconds of each row, by the table's name and the row's."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        others = [name for name in only if name != "starting"]
        if others:
            subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks", "--only", ",".join(others), "--out", folder),
                    *(["--quick"] if quick else []),
                ],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree.resolve())},
                stdout=sys.stderr,
                check=True,
            )
        for path in sorted(Path(folder).glob("*.csv")):
            table = pd.read_csv(path, index_col=0)
            if "median_ms" in table:
                found[path.stem] = table["median_ms"]
    if "starting" in only:
        found["starting"] = starting.measure(tree.resolve(), 1)["cpu_s"] * 1000
    return pd.concat(found, names=["table", "name"])


if __name__ == "__main__":
    main()  # nothing is settled here: pinned, this process would leave one core to those that it starts
