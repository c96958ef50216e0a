"""The figures of a run's report: arrays in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from classmates.reporting.analysis import FeatureMap, Floats, Integers, Reliability
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
    dashes,
    dots,
    legend_below,
    line_styles,
    shape,
    shortened,
    styled,
)
from classmates.tasks.protocol import Metric, MetricFormat

LARGEST_PANEL = 4.8  # inches: a side of one that stands alone


@styled
def metric_intervals(metrics: Mapping[str, Metric], how: MetricFormat) -> Figure:
    """Draw a metric on the test images of each network, by name, with its interval if it has one."""
    figure = Figure(figsize=(WIDTH, 0.7 + 0.28 * len(metrics)))
    axes = figure.subplots()
    lines = _lines(metrics)
    for row, (who, metric) in enumerate(metrics.items()):
        line = lines[who]
        if metric.low is not None and metric.high is not None:
            axes.plot([metric.low, metric.high], [row, row], color=line["color"], linewidth=line["linewidth"])
        axes.plot(metric.value, row, "o", color=line["color"])
    axes.set_yticks(range(len(metrics)), list(metrics))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    if how.percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel(f"test {how.name}")
    return figure


@styled
def validation_curves(epochs: Integers, curves: Mapping[MetricFormat, Mapping[str, Floats]]) -> Figure:
    """Draw metrics of each network on the validation split by epoch [E], a panel a metric."""
    figure = Figure(figsize=(WIDTH, 3.0))
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (how, networks) in zip(panels, curves.items(), strict=True):
        lines = _lines(networks)
        for who, values in networks.items():
            axes.plot(epochs, values, **dots(epochs), **lines[who])
        axes.set_title(how.name)
        count_epochs(axes)
        if how.percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    legend_below(figure, panels[0].lines, list(next(iter(curves.values()))))
    return figure


@styled
def loss_curves(epochs: Integers, raw: Mapping[str, Floats], weighted: Mapping[str, Floats]) -> Figure:
    """Draw each term of the training loss by epoch [E]: as it is, and times its weight, the latter with "total"."""
    figure = Figure(figsize=(WIDTH, 3.0))
    left, right = figure.subplots(1, 2)
    styles = {"total": {"color": INK, "linewidth": 1}, **line_styles(raw)}
    for axes, curves, title in ((left, raw, "each term"), (right, weighted, "each term × its weight")):
        for term, values in curves.items():
            axes.plot(epochs, values, **dots(epochs), **styles[term])
        decades = _decades(list(curves.values()))
        if decades > 1.3:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(f"{title} (log scale)" if decades > 1.3 else title)
        count_epochs(axes)
    legend_below(figure, right.lines, list(weighted))
    return figure


@styled
def confusion_matrix(confusion: Integers, names: Sequence[str]) -> Figure:
    """Draw counts [K true, K predicted]; a cell's shade is the square root of its share of the true class.

    The row of a class without an image says so.
    """
    classes = len(names)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shade = np.sqrt(share)  # the eye finds one mistake in a hundred
    colours = np.empty((classes, classes, 4))
    colours[:] = to_rgba(VERMILION)
    colours[np.arange(classes), np.arange(classes)] = to_rgba(BLUE)
    colours[..., 3] = shade
    side = min(WIDTH, 2.2 + 0.32 * classes)
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(colours, interpolation="none")
    small: dict[str, Any] = {"fontsize": 8 if classes <= 15 else 6}
    for row, column in zip(*np.nonzero(confusion), strict=True):
        ink = "white" if shade[row, column] > 0.7 else INK
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=ink, **small)
    short = [shortened(name) for name in names]
    axes.set_xticks(range(classes), short, rotation=90 if max(map(len, short)) > 2 else 0, **small)
    rows = [
        name if images else f"{name} (no image)" for name, images in zip(short, confusion.sum(axis=1), strict=True)
    ]
    axes.set_yticks(range(classes), rows, **small)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    between = np.arange(0.5, classes - 1)
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(visible=False)
    axes.grid(which="minor")
    return figure


@styled
def reliability_diagram(bins: Reliability) -> Figure:
    """Draw how often predictions made with a probability come true, above how many were made with it."""
    figure = Figure(figsize=(4.2, 4.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(bins.images) + 1)
    place = {"x": edges[:-1], "width": np.diff(edges), "align": "edge"}
    above.bar(height=np.nan_to_num(bins.accuracy), color=BLUE, alpha=0.55, label="came true", **place)
    above.plot(bins.confidence, bins.accuracy, "o", color=BLUE, markersize=3)
    above.plot([0, 1], [0, 1], color=INK, linestyle="dashed", linewidth=1, label="perfectly calibrated")
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    above.set(ylabel="share that was right", ylim=(0, 1.02), xlim=(0, 1))
    below.bar(height=bins.images / bins.images.sum(), color=BLUE, alpha=0.55, **place)
    below.set(xlabel="probability of the predicted class", ylabel="images", ylim=(0, 1.02))
    return figure


@styled
def accuracy_by_shot(grid: Mapping[tuple[int, int], Metric], how: MetricFormat) -> Figure:
    """Draw a metric by the number of images that a class is learned from, a line a number of classes.

    grid: the metric with its interval by way and shot.
    """
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    ways = list(dict.fromkeys(way for way, _ in grid))
    shots = list(dict.fromkeys(shot for _, shot in grid))
    names = [f"{way} classes" for way in ways]
    for number, (way, line) in enumerate(zip(ways, line_styles(names).values(), strict=True)):
        metrics = [grid[way, shot] for shot in shots]
        axes.plot(shots, [metric.value for metric in metrics], marker=shape(number), markersize=5, **line)
        low, high = np.array([(metric.low, metric.high) for metric in metrics], float).T
        axes.fill_between(shots, low, high, color=line["color"], alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(shots, [str(shot) for shot in shots])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel("images that each class is learned from (shot)")
    axes.set_ylabel(how.name)
    legend_below(figure, axes.lines, names)
    return figure


@styled
def feature_maps(maps: Sequence[FeatureMap], labels: Integers, names: Sequence[str]) -> Figure:
    """Draw one panel a depth; up to 30 classes by colour and shape, of more the first ten, the rest grey."""
    columns = 4 if len(maps) % 4 == 0 else min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(WIDTH, 0.3 + (min(WIDTH / columns, LARGEST_PANEL) + 0.7) * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    told_apart = range(len(names) if len(names) <= MOST_CLASSES_TOLD_APART else len(TEN))
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    for axes, depth in zip(panels, maps, strict=False):
        rest = ~np.isin(labels, told_apart)
        axes.scatter(*depth.points[rest].T, s=4, color="#888888", alpha=0.4, linewidths=0, rasterized=True)
        handles = [
            axes.scatter(
                *depth.points[labels == number].T,
                s=9,
                color=TEN[number % len(TEN)],
                marker=MARKERS[number // len(TEN)],
                linewidths=0,
                rasterized=True,
            )
            for number in told_apart
        ]
        silhouette = "undefined" if depth.silhouette is None else f"{depth.silhouette:z.2f}".replace("-", "−")
        axes.set_title(f"{shortened(depth.name)}\n{depth.width} numbers")
        axes.set_xlabel(f"silhouette {silhouette}\nnearest neighbour {100 * depth.purity:.1f} %")
        axes.set(xticks=[], yticks=[])
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_box_aspect(1)
    legend_below(figure, handles, [shortened(names[number]) for number in told_apart], markerscale=1.6)
    return figure


def _lines(whos: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return one line style a network: the student stands out, the ensemble is dashed, the others are thin."""
    others = [who for who in whos if who not in ("student", "ensemble")]
    thin = {
        who: {"color": OTHERS[n % len(OTHERS)], "linewidth": 1, "linestyle": dashes(n // len(OTHERS))}
        for n, who in enumerate(others)
    }
    return thin | {
        "student": {"color": BLUE, "linewidth": 2.4, "zorder": 3},
        "ensemble": {"color": VERMILION, "linewidth": 1.6, "linestyle": "dashed"},
    }


def _decades(curves: Sequence[Floats]) -> float:
    """Return how many powers of ten the values span; 0 where a logarithmic axis cannot be."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    return float(np.log10(values.max() / values.min())) if values.size and values.min() > 0 else 0.0
