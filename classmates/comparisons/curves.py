"""The figures of a comparison that have a line a row: learning curves and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from classmates.comparisons.panels import GREY, Small, crowded, legend, panels
from classmates.reporting.theme import BLUE, INK, count_epochs, dots, line_styles, styled

ALONE: dict[str, Any] = {"color": BLUE, "linewidth": 1.4}
"""The line of a row with a panel of its own."""


@styled
def learning_curves(frame: pd.DataFrame, rows: Sequence[str], unit: str, reference: str) -> Figure:
    """Draw ``mean`` ± ``std`` over seeds by ``epoch``, in ``unit``: a line and a band a row, a panel a model.

    More than eight rows have a small panel each, the reference behind them in grey.
    """
    if crowded(frame):
        small = Small(frame, reference)
        for axes, line, behind in small.panels():
            axes.plot(behind["epoch"], behind["mean"], **dots(behind), **GREY)
            _curve(axes, line, ALONE)
            count_epochs(axes)
            axes.set_xlabel("")
        return small.labelled("epoch", unit)
    figure, drawn = panels(frame, 2.7)
    styles = line_styles(rows)
    for axes, part in drawn:
        for row, line in part.groupby("row", sort=False):
            _curve(axes, line, {"linewidth": 1.4, **styles[str(row)]})
        count_epochs(axes)
        axes.set_ylabel(unit)
    legend(figure, styles, frame)
    return figure


def _curve(axes: Axes, line: pd.DataFrame, style: dict[str, Any]) -> None:
    axes.plot(line["epoch"], line["mean"], **dots(line), **style)
    low, high = line["mean"] - line["std"].fillna(0), line["mean"] + line["std"].fillna(0)
    axes.fill_between(line["epoch"], low, high, color=style["color"], alpha=0.2, linewidth=0)


@styled
def calibration(frame: pd.DataFrame, rows: Sequence[str], reference: str) -> Figure:
    """Draw the share that was right (``accuracy``) by ``confidence``: a line a row, on the diagonal if calibrated.

    More than eight rows have a small panel each, the reference behind them in grey.
    """
    known = frame[frame["images"] > 0]
    across, up = "probability of the predicted class", "share that was right"
    if crowded(frame):
        small = Small(known, reference, height=1.75)
        for axes, line, behind in small.panels():
            _diagonal(axes)
            axes.plot(behind["confidence"], behind["accuracy"], **GREY)
            axes.plot(line["confidence"], line["accuracy"], marker="o", markersize=2, **ALONE)
            axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        return small.labelled(across, up)
    figure, drawn = panels(known, 3.9)
    styles = line_styles(rows)
    for axes, part in drawn:
        _diagonal(axes)
        for row, line in part.groupby("row", sort=False):
            axes.plot(line["confidence"], line["accuracy"], marker="o", markersize=3, **styles[str(row)])
        axes.set_xlabel(across)
        axes.set_ylabel(up)
    legend(figure, styles, known)
    return figure


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (1, 3)), linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), box_aspect=1)
