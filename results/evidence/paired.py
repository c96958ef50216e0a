"""Compare two rows that stand in the tables of two comparisons, seed by seed.

    python results/evidence/paired.py photos MCL photos-control 'Baseline (2 × as long)'

Prints the difference of the students' scores, in points, with its 95 % interval (Student's t).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from scipy import stats

HERE = Path(__file__).resolve().parent


def scores(folder: str, row: str) -> pd.Series:
    """Return the student's score in percent by seed, of the finished runs of a row."""
    runs = pd.read_csv(HERE / folder / "runs.csv")
    found = runs[(runs["row"] == row) & (runs["status"] == "done")].set_index("seed")["student"].dropna()
    if found.empty:
        raise SystemExit(f"{folder}/runs.csv has no finished run of '{row}'; rows: {sorted(set(runs['row']))}")
    return 100 * found


def interval(differences: pd.Series) -> tuple[float, float, float]:
    """Return the mean of two or more differences and the ends of its 95 % interval."""
    mean = differences.mean()
    low, high = stats.t.interval(0.95, len(differences) - 1, mean, stats.sem(differences))
    return mean, low, high


def main(folder: str, row: str, other_folder: str, other: str) -> None:
    differences = (scores(folder, row) - scores(other_folder, other)).dropna()
    if len(differences) < 2 or differences.index.has_duplicates:
        raise SystemExit(f"seeds {sorted(differences.index)} are in both: there must be two or more, each once")
    mean, low, high = interval(differences)
    print(f"{row} − {other}: {mean:+.2f} points [{low:+.2f}, {high:+.2f}], {len(differences)} seeds")
    print("by seed: " + ", ".join(f"{value:+.2f}" for value in differences))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
