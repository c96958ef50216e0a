"""Put what the evidence says into docs/which_method.md.

    python -m results.which_method

Each finished comparison in results/evidence/ goes between the two comments that name its folder; everything else
stays as it is, and so does a section whose comparison is not finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.harness import markdown
from results.evidence.chart import times_compare
from results.photos.write_up import put

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "which_method.md"
EVIDENCE = HERE / "evidence"


def section(folder: Path) -> str:
    """Return a comparison's verdicts, and a short table for each of its models."""
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()
    verdicts = [line for line in lines if line.startswith("**")]  # one a model
    table = pd.read_csv(folder / "table.csv")
    rough = [row for row in table["row"] if not times_compare(folder.name, row)]
    table.loc[table["row"].isin(rough), "training_ratio"] = float("nan")
    verdicts = [without_cost(verdict, rough) for verdict in verdicts]
    tables = table.groupby("model", sort=False)
    parts = [*verdicts]
    for model, table in tables:
        parts += [f"{model}:"] if len(tables) > 1 else []
        parts.append(markdown(short(table)))
    return "\n\n".join([*parts, f"[Everything about it](../results/evidence/{folder.name}/table.md)"])


def without_cost(verdict: str, rough: Sequence[str]) -> str:
    """Return a verdict without what it says of costs, where that names a row whose time is rough."""
    said, by_cost, cost = verdict.removesuffix("**").partition(" By cost: ")
    return f"{said}**" if by_cost and any(row in cost for row in rough) else verdict


def short(table: pd.DataFrame) -> pd.DataFrame:
    """Return of each row that has run its mean, its difference to the reference and its cost, the best first."""
    ordered = table[table["seeds"] > 0].sort_values("mean", ascending=table["better_if"].iloc[0] == "less")
    columns = {
        "mean ± std": [spread(row) for row in ordered.itertuples()],
        f"− {table['reference'].iloc[0]} [95 %]": [difference(row) for row in ordered.itertuples()],
        "× training time": [cost(row) for row in ordered.itertuples()],
        "seeds": [str(row.seeds) for row in ordered.itertuples()],
    }
    return pd.DataFrame(columns, index=pd.Index(ordered["row"], name="method"))


def cost(row: Any) -> str:
    """Return a row's training time in multiples of the reference's; a dash where the two do not compare."""
    return "–" if pd.isna(row.training_ratio) else f"{row.training_ratio:.1f}"


def spread(row: Any) -> str:
    """Return a row's mean and its standard deviation, which one seed does not have."""
    return f"{row.mean:.2f}" if pd.isna(row.std) else f"{row.mean:.2f} ± {row.std:.2f}"


def difference(row: Any) -> str:
    """Return a difference with its interval, and a mark where it outlasts the correction for the number of rows.

    row: of a comparison's table, as ``itertuples`` gives it; of one seed it has no interval.
    """
    if pd.isna(row.difference):
        return "reference" if row.row == row.reference else ""
    if pd.isna(row.low):
        return f"{row.difference:+.2f}".replace("-", "−")
    mark = "▲ " if row.marked else "▼ " if row.marked_worse else ""
    numbers = " ".join(f"{value:+.2f}" for value in (row.difference, row.low, row.high)).replace("-", "−").split()
    return f"{mark}{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def main() -> None:
    for folder in sorted(EVIDENCE.iterdir()):
        if (folder / "table.csv").exists() and f"<!-- {folder.name} -->" in PAGE.read_text(encoding="utf-8"):
            put(PAGE, folder.name, section(folder))


if __name__ == "__main__":
    main()
