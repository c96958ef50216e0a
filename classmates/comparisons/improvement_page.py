"""The page of ``improve``: the verdict, what was tried, and the answers of the student to deploy."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from classmates.comparisons.improvement import Improvement
from classmates.reporting import classification, page, theme
from classmates.runs.reading import Evaluation
from classmates.runs.record import RunRecord
from classmates.tasks.protocol import Scores

LEAST_RANGE = 2.0
"""Percentage points that an axis of the figure spans at least: what lies close together is seen to."""
LONGEST = 34
"""How many letters of a method's name are in the figure, as in the table of the verdict."""


def write_improvement_page(verdict: Improvement, record: RunRecord, evaluation: Evaluation, scores: Scores) -> None:
    """Write ``report.html`` into a verdict's folder, one HTML file that needs no network.

    Args:
        verdict: what is said.
        record: of the run whose student is to be deployed.
        evaluation: that student's answers on the test images; its features are not shown.
        scores: the same student's, on the same images.

    Raises:
        UserError: the page cannot be written.
    """
    filled = page.fill(
        "improvement.html.j2",
        verdict=verdict,
        record=record,
        main=verdict.metric,
        student=scores[record.protocol.headline],
        n=f"{verdict.images:,}",
        on_test={row: fmean(shares) for row, shares in verdict.on_test.items()},
        resampled=resampled(verdict),
        tried_svg=theme.svg(trials(verdict), "tried"),
        class_names=evaluation.class_names,
        settings=page.flat(record.config),
        **classification.answers(evaluation, scores, record.protocol),
    )
    page.write(filled, verdict.page)


def resampled(verdict: Improvement) -> str:
    """Return what the interval of the gain is over; empty where there is none."""
    if verdict.difference is None or isnan(verdict.difference.low):
        return ""
    images = verdict.counted if verdict.groups is None else f"groups of {verdict.counted}"
    return f"seeds and {images}" if len(verdict.seeds) > 1 else images


@theme.styled
def trials(verdict: Improvement) -> Figure:
    """Draw the headline of every method with each seed, on validation images and, of those looked at, on test images.

    A circle is a seed, a line the mean; the filled ones are of the method that is deployed.
    """
    methods = [one.method for one in verdict.tried]
    figure = Figure(figsize=(theme.WIDTH, 0.9 + 0.32 * len(methods)))
    left, right = figure.subplots(1, 2, sharey=True)
    by_seed = {one.method: one.by_seed for one in verdict.tried}
    for axes, title, scores in (
        (left, "validation images, which the choice is by", by_seed),
        (right, f"test {verdict.counted}", verdict.on_test),
    ):
        axes.set_title(title)
        axes.set_xlabel(verdict.metric.heading)
        for place, method in enumerate(methods):
            _draw_seeds(axes, place, scores.get(method, ()), deployed=method == verdict.deployed)
        _span(axes, [100 * share for shares in scores.values() for share in shares])
    left.set_yticks(range(len(methods)), [theme.shortened(method, LONGEST) for method in methods])
    left.set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _span(axes: Axes, values: Sequence[float]) -> None:
    """Let an axis span its values, LEAST_RANGE at least, with ticks at percentages that there can be."""
    middle = (min(values) + max(values)) / 2
    half = max(1.1 * (max(values) - min(values)), LEAST_RANGE) / 2
    ticks = MaxNLocator(5).tick_values(middle - half, middle + half)
    axes.set_xticks([tick for tick in ticks if max(0, middle - half) <= tick <= min(100, middle + half)])
    axes.set_xlim(middle - half, middle + half)


def _draw_seeds(axes: Axes, place: int, shares: Sequence[float], *, deployed: bool) -> None:
    """Draw the seeds of a method in the line of that place; nothing where there are none."""
    if shares:
        colour = theme.BLUE if deployed else theme.INK
        filling = colour if deployed else "none"
        values = 100 * np.asarray(shares)
        axes.plot(values, np.full(len(values), place), "o", color=colour, markerfacecolor=filling, markersize=5)
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour, linewidth=1.6)
