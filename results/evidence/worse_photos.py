"""Score the students of a comparison on test images made worse, and compare its rows seed by seed.

    python -m results.evidence.worse_photos results/evidence/photos-128-worse Baseline

Writes ``corruptions.csv`` beside the comparison's tables: the accuracy of every run for each corruption and severity,
severity 0 being the images as they are. A run that is in it already is not scored again. Prints the mean of each row
over severities, and its difference to the row that is named, with its 95 % interval (Student's t, paired by seed).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import classmates
from results.evidence.paired import interval

KEYS = ["row", "seed"]


def scored(folder: Path) -> pd.DataFrame:
    """Return the accuracy of each finished run, in percent, by corruption and severity; score those that are new."""
    path = folder / "corruptions.csv"
    found = [pd.read_csv(path)] if path.is_file() else []
    known = {*zip(*(found[0][key] for key in KEYS), strict=True)} if found else set()
    runs = pd.read_csv(folder / "runs.csv")
    for run in runs[runs["status"] == "done"].itertuples():
        if (run.row, run.seed) in known:
            continue
        print(f"{run.row}, seed {run.seed}", flush=True)
        scores = classmates.evaluate(folder / str(run.folder), corruptions=True)
        values = {("as they are", 0): scores["top1"].value}
        for name, each in scores.corruptions.items():
            values |= {(name, severity): one["top1"].value for severity, one in enumerate(each, start=1)}
        lines = [(run.row, run.seed, *key, round(100 * value, 4)) for key, value in values.items()]
        found.append(pd.DataFrame(lines, columns=[*KEYS, "corruption", "severity", "accuracy"]))
        pd.concat(found).to_csv(path, index=False)
    return pd.read_csv(path)


def main(folder: Path, reference: str) -> None:
    values = scored(folder).groupby([*KEYS, "corruption"], sort=False)["accuracy"].mean().unstack(sort=False)
    values["all corruptions"] = values.drop(columns="as they are").mean(axis=1)
    if reference not in values.index:
        raise SystemExit(f"no row is called '{reference}'; there are: {', '.join(values.index.unique('row'))}")
    for row, of_row in values.groupby("row", sort=False):
        of_row = of_row.droplevel("row")
        print(f"\n{row}, {len(of_row)} seeds{'' if row == reference else f', less {reference}'}")
        for name, each in of_row.items():
            print(f"  {name:16} {each.mean():6.2f}{difference(each - values.loc[reference, name])}")


def difference(differences: pd.Series) -> str:
    """Return differences by seed as text, their mean and interval; nothing for a row against itself."""
    differences = differences.dropna()
    if len(differences) < 2 or not differences.any():
        return ""
    mean, low, high = interval(differences)
    return f"  {mean:+6.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
