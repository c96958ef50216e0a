"""Draw the gains of every method over Baseline, by data set, from the tables beside this file.

    python results/evidence/chart.py

A column a data set, a line a method: the difference of the student's accuracy to Baseline with its 95 % interval (an
open circle where one or two seeds leave none), and the training time in multiples of Baseline's, where it ran on the
same machine. ``gains.svg`` and ``gains.png`` have the methods that several data sets have or that are clearly better
on one of these, ``gains_all.svg`` and ``gains_all.png`` every one.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from classmates.reporting.theme import BLUE, INK, VERMILION, save, styled

HERE = Path(__file__).resolve().parent
SETS = {
    "photos": "629 photos,\nfine-tuned",
    "photos-128": "2,761 photos,\nfine-tuned",
    "small-photos": "1,000 of\nCIFAR-100,\nfine-tuned",
    "superclasses-5000": "5,000 of\nCIFAR-100,\nfrom scratch",
    "photos-scratch-64": "2,761 photos,\nfrom scratch",
    "digits-100": "100 digits,\nfrom scratch",
    "digits-100-today": "the same digits,\nlater methods",
    "transformers": "500 digits,\na transformer",
}
"""Folders of this one in the order of the columns, and what stands above each."""

SLOWER = {
    "photos-128": (
        *("LabelSmoothing", "Mixup", "CutMix", "DML", "MCL (no contrast)", "CORSD + MCL", "CORSD (no relations)"),
        *("SD", "CSKD", "PSKD", "MCL (no distillation)", "MCL (labels alone)"),
    ),
    "photos-scratch-64": (
        *("MCL", "CORSD", "CutMix", "CutMix (3 × as long)", "LabelSmoothing"),
        *("MCL (no contrast)", "CORSD (no relations)", "SD", "DML", "Baseline (3 × as long)"),
    ),
    "small-images-mixing": ("ONE + CutMix (3 × as long)", "CutMix (3 × as long)", "CutMix (5 × as long)"),
    "superclasses-5000": ("SD", "KD", "CORSD (no relations)", "CORSD + MCL", "CSKD", "PSKD"),
}
"""Rows that ran on a slower or busier machine than Baseline: their times are no multiples of its, and not shown."""

BUSY = (
    *("photos", "photos-128-worse", "digits-100", "digits-100-today"),
    *("corsd-settings", "corsd-depth", "corsd-batches"),
)
"""Comparisons of which no row's time is shown, as other work ran beside all of them."""

FEWEST = 3
"""With fewer seeds an interval is too wide to say anything, and a point is open."""
Row = dict[str, str]


def read(folder: str) -> dict[str, Row]:
    """Return a comparison's lines by row, Baseline left out: every difference is to it."""
    with (HERE / folder / "table.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["row"] != line["reference"]]
    for line in lines:
        if not times_compare(folder, line["row"]):
            line["training_ratio"] = ""
    # How much longer Baseline may train differs by set: one line, whose cost says how much.
    return {re.sub(r"Baseline \(\d+ × as long\)", "Baseline (as long as MCL)", line["row"]): line for line in lines}


def times_compare(folder: str, row: str) -> bool:
    """Return whether a row's training time is a multiple of Baseline's, as both ran on a machine alike."""
    return folder not in BUSY and row not in SLOWER.get(folder, ())


def draw(axes: Axes, rows: dict[str, Row], names: list[str]) -> None:
    """Draw one data set: a point and an interval for each of its rows, its cost at the right edge."""
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, name in enumerate(names):
        if name not in rows:
            continue
        row = rows[name]
        mean, low, high = (float(row[key] or "nan") for key in ("difference", "low", "high"))
        clear = BLUE if row["marked"] == "True" else VERMILION if row["marked_worse"] == "True" else INK
        few = int(row["seeds"]) < FEWEST
        if not few:
            axes.plot([low, high], [place, place], color=clear, linewidth=1.4, alpha=1 if clear != INK else 0.5)
        axes.plot(mean, place, "o", color=clear, markersize=4, fillstyle="none" if few else "full")
        axes.annotate(
            f"{float(row['training_ratio']):.1f} ×" if row["training_ratio"] else "–",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_ylim(len(names) - 0.5, -0.5)
    seeds = [int(row["seeds"]) for row in rows.values()]
    least, most = min(seeds), max(seeds)
    axes.set_xlabel(f"points gained\n{f'{least} to {most}' if least < most else most} seeds")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


@styled
def chart(tables: dict[str, dict[str, Row]], file: str) -> None:
    """Draw these data sets side by side, the method that gains most on average first."""
    gains: dict[str, list[float]] = {}
    for rows in tables.values():
        for name, row in rows.items():
            gains.setdefault(name, []).append(float(row["difference"]))
    names = sorted(gains, key=lambda name: -sum(gains[name]) / len(gains[name]))
    figure = Figure(figsize=(11, 0.8 + 0.24 * len(names)))
    panels = figure.subplots(1, len(tables), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (folder, rows) in zip(panels, tables.items(), strict=True):
        draw(axes, rows, names)
        axes.set_title(SETS[folder], loc="left")
    panels[0].set_yticks(range(len(names)), names)
    save(figure, HERE / file)


def shared(tables: dict[str, dict[str, Row]]) -> dict[str, dict[str, Row]]:
    """Return the data sets that share at least two methods with others, with those methods and the clear gains."""
    counts = Counter(name for rows in tables.values() for name in rows)
    return {
        folder: {name: row for name, row in rows.items() if counts[name] > 1 or row["marked"] == "True"}
        for folder, rows in tables.items()
        if sum(counts[name] > 1 for name in rows) > 1
    }


def main() -> None:
    tables = {name: read(name) for name in SETS if (HERE / name / "table.csv").is_file()}
    chart(shared(tables), "gains")
    chart(tables, "gains_all")


if __name__ == "__main__":
    main()
