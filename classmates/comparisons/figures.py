"""The figures of a comparison: tables with one line a point in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from classmates.comparisons.numbers import BETTER, WORSE, signed
from classmates.comparisons.panels import legend, panels, robust_limits, title
from classmates.reporting.theme import (
    BLUE,
    INK,
    MARKERS,
    MOST_CLASSES_TOLD_APART,
    OTHERS,
    TEN,
    VERMILION,
    WIDTH,
    legend_below,
    line_styles,
    shape,
    shortened,
    styled,
)


@styled
def accuracy_against_time(frame: pd.DataFrame, rows: Sequence[str], unit: str) -> Figure:
    """Draw the score (``mean`` ± ``std``, in ``unit``) of each row against its training time in ``minutes``.

    A row whose score is far out is an arrow at the edge with its value.
    """
    figure, drawn = panels(frame, 3.0)
    styles = _point_styles(rows)
    for axes, part in drawn:
        for row, point in part.set_index("row").iterrows():
            across, up = _or_nothing(point["minutes_std"]), _or_nothing(point["std"])
            axes.errorbar(point["minutes"], point["mean"], xerr=across, yerr=up, linewidth=1, **styles[str(row)])
        _leave_out(axes, part, styles)
        axes.set_xlim(left=0)
        axes.set_xlabel("training time, minutes")
        axes.set_ylabel(unit)
    legend(figure, styles, frame)
    return figure


def _leave_out(axes: Axes, part: pd.DataFrame, styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Set limits without what is far out, which is named at the edge; where nothing is, leave them as they are."""
    low, high = robust_limits(part["mean"].tolist())
    out = part[(part["mean"] < low) | (part["mean"] > high)]
    if out.empty:
        return
    spread = part["std"].drop(out.index).max()
    margin = 0.05 * (high - low) + (0 if np.isnan(spread) else spread)
    axes.set_ylim(low - margin, high + margin)
    for _, point in out.iterrows():
        above = point["mean"] > high
        axes.annotate(
            f"{'↑' if above else '↓'} {point['row']} {point['mean']:.2f}",
            (point["minutes"], high + margin if above else low - margin),
            (0, -8 if above else 4),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=styles[str(point["row"])]["color"],
        )


@styled
def ablation(frame: pd.DataFrame, unit: str) -> Figure:
    """Draw each row's ``difference`` to the reference, in ``unit``: a bar with its interval, a diamond if published.

    A bar is coloured, hatched and signed by what is ``clear`` of it. One that is far out is cut at the edge and has
    its value written at zero, so that the others can be read.
    """
    parts = list(frame.groupby(["data", "model"], sort=False))
    heights = [0.9 + 0.26 * len(part) for _, part in parts]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5))
    axes_of = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (place, part) in zip(axes_of, parts, strict=True):
        places = np.arange(len(part))
        whiskers = [part["difference"] - part["low"], part["high"] - part["difference"]]
        bars = axes.barh(places, part["difference"].fillna(0), height=0.6)
        for bar, clear in zip(bars, part["clear"], strict=True):
            bar.set(**BARS[clear])
        axes.errorbar(part["difference"], places, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.plot(part["published_difference"], places, "D", color=VERMILION, markerfacecolor="none", markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        names = zip(part["clear"], part["row"], strict=True)
        axes.set_yticks(places, [f"{SIGNS[clear]} {shortened(row, 36)}".strip() for clear, row in names])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_title(title(place))
        axes.set_xlabel(f"{unit} beyond {part['reference'].iloc[0]}")
        _cut(axes, part)
    shown = [clear for clear in BARS if clear in set(frame["clear"])]
    legend_below(figure, [Patch(**BARS[clear]) for clear in shown], [LEGEND[clear] for clear in shown])
    return figure


def _cut(axes: Axes, part: pd.DataFrame) -> None:
    """Set limits that hold what is not far out; write the value of a bar that ends beyond them."""
    ends = part[["difference", "low", "high", "published_difference"]]
    low, high = robust_limits([0.0, *ends.to_numpy(float).ravel()])
    margin = 0.05 * (high - low)
    if margin == 0:
        return
    low, high = min(low, 0) - margin * (low < 0), max(high, 0) + margin * (high > 0)
    axes.set_xlim(low, high)
    for place, value in enumerate(part["difference"]):
        if not low <= value <= high and not np.isnan(value):
            axes.annotate(
                f"{signed(value)} →" if value > high else f"← {signed(value)}",
                (0, place),
                (-4 if value > high else 4, 0),  # on the side of zero where the bar is not
                textcoords="offset points",
                va="center",
                ha="right" if value > high else "left",
                fontsize=8,
            )


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
    axes_of = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes in axes_of[len(settings) :]:
        axes.set_axis_off()
    for axes, setting in zip(axes_of, settings, strict=False):
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
    for axes in axes_of[::columns]:
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
    axes_of = figure.subplots(len(rows), len(depths), squeeze=False)
    told_apart = range(len(names) if len(names) <= MOST_CLASSES_TOLD_APART else len(TEN))
    by_panel = points.groupby(["row", "depth"], sort=False)
    figures = numbers.set_index(["row", "depth"])
    for row, line in zip(rows, axes_of, strict=True):
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


BARS: dict[str, dict[str, Any]] = {
    "better": {"facecolor": BLUE, "alpha": 0.7},
    "": {"facecolor": "#888888", "alpha": 0.4},
    "worse": {"facecolor": "none", "edgecolor": VERMILION, "hatch": "////", "linewidth": 1.0},
}
SIGNS = {"better": BETTER, "worse": WORSE, "": ""}
LEGEND = {"better": f"{BETTER} clearly better", "": "not told apart", "worse": f"{WORSE} clearly worse"}
LINE: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 4, "linewidth": 1.6, "capsize": 2}


def _point_styles(rows: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour and shape by row, as :func:`line_styles` has colour and dashes."""
    styles = line_styles(rows)
    period = len({style["color"] for style in styles.values()})
    return {
        row: {"color": style["color"], "marker": shape(number // period), "linestyle": "none"}
        for number, (row, style) in enumerate(styles.items())
    }


def _or_nothing(spread: float) -> float | None:
    return None if np.isnan(spread) else spread
