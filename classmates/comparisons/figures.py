"""The figures of a comparison: tables with one line a point in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from classmates.reporting.theme import (
    BLUE,
    INK,
    MARKERS,
    MOST_CLASSES_TOLD_APART,
    OTHERS,
    TEN,
    VERMILION,
    WIDTH,
    count_epochs,
    dots,
    legend_below,
    line_styles,
    shortened,
    styled,
)


@styled
def learning_curves(frame: pd.DataFrame, rows: Sequence[str], unit: str) -> Figure:
    """Draw ``mean`` ± ``std`` over seeds by ``epoch``, in ``unit``: a line and a band a row, a panel a model."""
    figure, panels = _panels(frame, 2.7)
    styles = line_styles(rows)
    for axes, part in panels:
        for row, line in part.groupby("row", sort=False):
            axes.plot(line["epoch"], line["mean"], linewidth=1.4, **dots(line), **styles[str(row)])
            spread = line["std"].fillna(0)
            colour = styles[str(row)]["color"]
            axes.fill_between(
                line["epoch"], line["mean"] - spread, line["mean"] + spread, color=colour, alpha=0.2, linewidth=0
            )
        count_epochs(axes)
        axes.set_ylabel(unit)
    _legend(figure, styles, frame)
    return figure


@styled
def accuracy_against_time(frame: pd.DataFrame, rows: Sequence[str], unit: str) -> Figure:
    """Draw the score (``mean`` ± ``std``, in ``unit``) of each row against its training time in ``minutes``."""
    figure, panels = _panels(frame, 3.0)
    styles = _point_styles(rows)
    for axes, part in panels:
        for row, point in part.set_index("row").iterrows():
            across, up = _or_nothing(point["minutes_std"]), _or_nothing(point["std"])
            axes.errorbar(point["minutes"], point["mean"], xerr=across, yerr=up, linewidth=1, **styles[str(row)])
        axes.set_xlim(left=0)
        axes.set_xlabel("training time, minutes")
        axes.set_ylabel(unit)
    _legend(figure, styles, frame)
    return figure


@styled
def ablation(frame: pd.DataFrame) -> Figure:
    """Draw each row's ``difference`` to the reference, a bar with its 95 % interval, a diamond if published."""
    parts = list(frame.groupby(["data", "model"], sort=False))
    heights = [0.9 + 0.26 * len(part) for _, part in parts]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.2))
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (place, part) in zip(panels, parts, strict=True):
        places = np.arange(len(part))
        whiskers = [part["difference"] - part["low"], part["high"] - part["difference"]]
        axes.barh(places, part["difference"].fillna(0), color=BLUE, alpha=0.55, height=0.6)
        axes.errorbar(part["difference"], places, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.plot(part["published_difference"], places, "D", color=VERMILION, markerfacecolor="none", markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [shortened(row, 36) for row in part["row"]])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title(_title(place))
        axes.set_xlabel(f"points beyond {part['reference'].iloc[0]}")
    return figure


@styled
def calibration(frame: pd.DataFrame, rows: Sequence[str]) -> Figure:
    """Draw the share that was right (``accuracy``) by ``confidence``: a line a row, on the diagonal if calibrated."""
    figure, panels = _panels(frame, 3.9)
    styles = line_styles(rows)
    for axes, part in panels:
        axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (1, 3)), linewidth=1)
        for row, line in part.groupby("row", sort=False):
            known = line[line["images"] > 0]
            axes.plot(known["confidence"], known["accuracy"], marker="o", markersize=3, **styles[str(row)])
        axes.set(xlim=(0, 1), ylim=(0, 1.02), box_aspect=1)
        axes.set_xlabel("probability of the predicted class")
        axes.set_ylabel("share that was right")
    _legend(figure, styles, frame)
    return figure


@styled
def sensitivity(frame: pd.DataFrame, unit: str) -> Figure:
    """Draw ``mean`` ± ``std`` by ``value``, a line in a panel of its own for each ``setting``.

    frame: of one model and data set.
    Rows without a setting are horizontal lines through every panel.
    """
    levels, swept = frame[frame["setting"] == ""], frame[frame["setting"] != ""]
    settings = swept["setting"].drop_duplicates().tolist()
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    figure = Figure(figsize=(WIDTH, 2.1 * rows + 0.5))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in panels[len(settings) :]:
        axes.set_axis_off()
    for axes, setting in zip(panels, settings, strict=False):
        line = swept[swept["setting"] == setting]
        handles = [axes.errorbar(line["value"], line["mean"], yerr=line["std"].fillna(0), **LINE)]
        for (_, level), colour in zip(levels.iterrows(), (VERMILION, OTHERS[0]), strict=False):
            handles.append(axes.axhline(level["mean"], color=colour, linestyle="dashed", linewidth=1.2))
        if line["value"].min() > 0 and line["value"].max() >= 5 * line["value"].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(setting)
    for axes in panels[::columns]:
        axes.set_ylabel(unit)
    legend_below(figure, handles, ["with this value", *levels["row"]])
    return figure


@styled
def tsne(points: pd.DataFrame, numbers: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw features of one model's test images, coloured by class: a line of panels a row, a panel a depth.

    points: ``x``, ``y``, ``label`` by row and depth. numbers: ``silhouette`` and ``purity`` by row and depth.
    """
    rows, depths = points["row"].drop_duplicates().tolist(), points["depth"].drop_duplicates().tolist()
    side = WIDTH / len(depths)
    figure = Figure(figsize=(WIDTH, 0.5 + (side + 0.35) * len(rows)))
    panels = figure.subplots(len(rows), len(depths), squeeze=False)
    told_apart = range(len(names) if len(names) <= MOST_CLASSES_TOLD_APART else len(TEN))
    by_panel = points.groupby(["row", "depth"], sort=False)
    figures = numbers.set_index(["row", "depth"])
    for row, line in zip(rows, panels, strict=True):
        for depth, axes in zip(depths, line, strict=True):
            part = by_panel.get_group((row, depth))
            rest = part[~part["label"].isin(told_apart)]
            axes.scatter(rest["x"], rest["y"], s=2, color="#888888", alpha=0.4, linewidths=0, rasterized=True)
            handles = []
            for label in told_apart:
                of_class = part[part["label"] == label]
                style = {"color": TEN[label % len(TEN)], "marker": MARKERS[label // len(TEN)]}
                handles.append(
                    axes.scatter(of_class["x"], of_class["y"], s=5, linewidths=0, rasterized=True, **style)
                )
            said = figures.loc[(row, depth)]
            silhouette = "–" if np.isnan(said["silhouette"]) else f"{said['silhouette']:z.2f}".replace("-", "−")
            axes.set_xlabel(f"{silhouette} | {100 * said['purity']:.1f} %", fontsize=8)
            axes.set(xticks=[], yticks=[], box_aspect=1)
            axes.spines[["top", "right"]].set_visible(True)
            if row == rows[0]:
                axes.set_title(shortened(said["stage"], 14))
        line[0].set_ylabel(shortened(row))
    legend_below(figure, handles, [shortened(names[label]) for label in told_apart], markerscale=2)
    return figure


LINE: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 4, "linewidth": 1.6, "capsize": 2}


def _panels(frame: pd.DataFrame, height: float) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Make a figure with a panel for each data set and model of ``frame``, two side by side, and each one's part."""
    parts = list(frame.groupby(["data", "model"], sort=False))
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(WIDTH if columns == 2 else 5.2, height * rows + 0.3))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    drawn = []
    for axes, (place, part) in zip(panels, parts, strict=False):
        axes.set_title(_title(place))
        drawn.append((axes, pd.DataFrame(part)))
    return figure, drawn


def _title(place: tuple[Any, ...]) -> str:
    data, model = place
    return f"{model}, {data}"


def _point_styles(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour and shape by row, as :func:`line_styles` has colour and dashes."""
    colours = [style["color"] for style in line_styles(rows).values()]
    period = len(set(colours))
    return {
        row: {"color": colours[number], "marker": MARKERS[number // period % len(MARKERS)], "linestyle": "none"}
        for number, row in enumerate(rows)
    }


def _or_nothing(spread: float) -> float | None:
    return None if np.isnan(spread) else spread


def _legend(figure: Figure, styles: Mapping[str, Mapping[str, Any]], frame: pd.DataFrame) -> None:
    """Name every row that is drawn, once."""
    names = [row for row in styles if row in set(frame["row"])]
    legend_below(figure, [Line2D([], [], **styles[name]) for name in names], [shortened(name, 40) for name in names])
