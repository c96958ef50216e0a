"""Judge the students of comparisons by the classes of CIFAR-100, and compare the rows seed by seed.

    python -m results.evidence.transferred cifar100 Baseline results/evidence/photos-128-worse ...

``cifar100`` is the folder of its files; one comparison or several are named after the row to compare with. A linear
classifier and the nearest neighbours learn from 1,000 images, ten of each class, see ``classmates transfer``. Writes
``transferred.csv`` beside this file, a line for each finished run, and scores none that is in it. A run whose student
is not in its folder any more is named. Prints the mean of each row, and its difference to the row that is named, with
its 95 % interval (Student's t, paired by seed).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import classmates
from results.evidence.worse_photos import KEYS, difference

TABLE = Path(__file__).with_suffix(".csv")
HOW = {"data": "cifar100", "train_size": 1000, "val_fraction": 0.02}
"""Of the 50,000 training images 1,000 are for validation; all 10,000 test images are scored."""


def scored(data_dir: str, folders: list[Path]) -> pd.DataFrame:
    """Return the accuracies of each finished run, in percent; score those that are new."""
    table = pd.read_csv(TABLE) if TABLE.is_file() else pd.DataFrame(columns=[*KEYS, "linear", "nearest", "C"])
    for folder in folders:
        runs = pd.read_csv(folder / "runs.csv")
        for run in runs[runs["status"] == "done"].itertuples():
            if ((table["row"] == run.row) & (table["seed"] == run.seed)).any():
                continue
            if not (folder / str(run.folder) / "student.safetensors").is_file():
                print(f"{folder / str(run.folder)} has no student any more: left out", file=sys.stderr)
                continue
            scores = classmates.transfer(folder / str(run.folder), data_dir=data_dir, **HOW)
            found = [round(100 * scores[who]["top1"].value, 4) for who in ("linear", "nearest")]
            table.loc[len(table)] = [run.row, run.seed, *found, scores.strength]
            table.sort_values(KEYS).to_csv(TABLE, index=False)
    return table


def main(data_dir: str, reference: str, *folders: str) -> None:
    table = scored(data_dir, [Path(folder) for folder in folders]).set_index(KEYS)
    if reference not in table.index:
        raise SystemExit(f"no row is called '{reference}'; there are: {', '.join(table.index.unique('row'))}")
    for row, of_row in table.groupby("row"):
        of_row = of_row.droplevel("row")
        print(f"\n{row}, {len(of_row)} seeds{'' if row == reference else f', less {reference}'}")
        for who in ("linear", "nearest"):
            print(f"  {who:8} {of_row[who].mean():6.2f}{difference(of_row[who] - table.loc[reference, who])}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
