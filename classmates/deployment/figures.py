"""The figure of what early exits cost and save."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from classmates.deployment.early_exit_table import Point
from classmates.reporting.theme import BLUE, INK, VERMILION, WIDTH, styled


@styled
def exit_curve(points: Sequence[Point]) -> Figure:
    """Draw accuracy by the measured time of a mean image: a line through the common thresholds, and two marks.

    points: the student's, that of the tuned thresholds, then the common thresholds.
    """
    student, tuned, *common = points
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    line = sorted(common, key=lambda point: point.latency.mean)
    axes.plot(
        [p.latency.mean for p in line], [p.accuracy for p in line], "o-", color=BLUE, label="one threshold for all"
    )
    for point, marker, color, label in (
        (student, "s", INK, "student"),
        (tuned, "D", VERMILION, "tuned on validation"),
    ):
        axes.plot(point.latency.mean, point.accuracy, marker, color=color, label=label)
    for point in line:
        axes.annotate(
            point.name, (point.latency.mean, point.accuracy), xytext=(4, -10), textcoords="offset points", fontsize=7
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel("milliseconds for a mean test image")
    axes.set_ylabel("top-1 accuracy")
    axes.legend(loc="best")
    return figure
