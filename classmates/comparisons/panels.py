"""The layout of a comparison's figures: a panel a model and data set, or of many rows a small panel each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from classmates.reporting.theme import WIDTH, legend_below, shortened

MOST_ROWS_IN_A_PANEL = 8
"""More lines than these cannot be told apart in one panel."""
COLUMNS = 4
GREY: dict[str, Any] = {"color": "#888888", "linewidth": 1.0, "alpha": 0.9}
"""The reference behind the line of a small panel."""


def panels(frame: pd.DataFrame, height: float) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Make a figure with a panel for each data set and model of ``frame``, two side by side, and each one's part."""
    parts = list(frame.groupby(["data", "model"], sort=False))
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(WIDTH if columns == 2 else 5.2, height * rows + 0.3))
    axes_of = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in axes_of[len(parts) :]:
        axes.set_axis_off()
    drawn = []
    for axes, (place, part) in zip(axes_of, parts, strict=False):
        axes.set_title(title(place))
        drawn.append((axes, pd.DataFrame(part)))
    return figure, drawn


def crowded(frame: pd.DataFrame) -> bool:
    """Return whether any model and data set has too many rows for one panel."""
    return bool(frame.groupby(["data", "model"])["row"].nunique().max() > MOST_ROWS_IN_A_PANEL)


class Small:
    """A figure of small panels, one for each row of each model and data set but the reference."""

    def __init__(self, frame: pd.DataFrame, reference: str, height: float = 1.15):
        """Lay out the panels; ``frame`` has one line a point, its rows in the order of the panels."""
        self.frame, self.reference = frame, reference
        self.blocks = [
            (place, part, rows)
            for place, part in frame.groupby(["data", "model"], sort=False)
            if (rows := [row for row in part["row"].unique() if row != reference])
        ]
        lines = [-(-len(rows) // COLUMNS) for _, _, rows in self.blocks]
        self.figure = Figure(figsize=(WIDTH, height * sum(lines) + 0.25 * len(lines) + 0.45))
        self.parts = self.figure.subfigures(len(lines), 1, squeeze=False, height_ratios=lines)[:, 0]

    def panels(self) -> Iterator[tuple[Axes, pd.DataFrame, pd.DataFrame]]:
        """Yield each panel with its row's points and the reference's, titles set, labels on the outermost alone."""
        for (place, part, rows), block in zip(self.blocks, self.parts, strict=True):
            if len(self.blocks) > 1:
                block.suptitle(title(place), fontsize=9)
            lines = -(-len(rows) // COLUMNS)
            axes_of = block.subplots(lines, COLUMNS, squeeze=False, sharex=True, sharey=True)
            behind = part[part["row"] == self.reference]
            for number, axes in enumerate(axes_of.ravel()):
                if number >= len(rows):
                    axes.set_axis_off()
                    continue
                if number + COLUMNS >= len(rows):  # the lowest of its column, though the line below may not be full
                    axes.tick_params(labelbottom=True)
                axes.set_title(shortened(rows[number], 22), fontsize=8, pad=2)
                axes.tick_params(labelsize=7)
                yield axes, part[part["row"] == rows[number]], behind

    def labelled(self, across: str, up: str) -> Figure:
        """Return the figure with the names of its axes, and of the grey line."""
        for block in self.parts:
            block.supylabel(up, fontsize=8)
        self.parts[-1].supxlabel(across, fontsize=8)
        if self.reference in set(self.frame["row"]):
            legend_below(self.figure, [Line2D([], [], **GREY)], [f"{shortened(self.reference)}, the reference"])
        return self.figure


def title(place: tuple[Any, ...]) -> str:
    """Return what a panel is of."""
    data, model = place
    return f"{model}, {data}"


def legend(figure: Figure, styles: Mapping[str, Mapping[str, Any]], frame: pd.DataFrame) -> None:
    """Name every row that is drawn, once."""
    names = [row for row in styles if row in set(frame["row"])]
    legend_below(figure, [Line2D([], [], **styles[name]) for name in names], [shortened(name, 40) for name in names])


def robust_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the largest of ``values`` but for those far out.

    Far out is beyond Tukey's outer fences, three interquartile ranges beyond the quartiles (Exploratory Data
    Analysis, 1977). NaN is left out, and of nothing but NaN they are 0 and 1; half of the values being equal is no
    reason to call the others far out.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return 0.0, 1.0
    first, third = np.percentile(known, [25, 75])
    reach = 3 * (third - first)
    inside = known[(known >= first - reach) & (known <= third + reach)] if reach > 0 else known
    return float(inside.min()), float(inside.max())
