"""The report of a run: its numbers and figures in one HTML file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from classmates._progress import bar
from classmates.reporting import analysis, classification, few_shot, figures, page, theme
from classmates.reporting.analysis import Points
from classmates.runs.reading import FinishedRun, read_run
from classmates.runs.record import RunRecord
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.episodes import EpisodeProtocol
from classmates.tasks.protocol import MetricFormat, ProtocolRecord


def every_depth(run: FinishedRun) -> Points:
    """Return the features that a run stored of some of its test images, shallow to deep."""
    return Points(run.evaluation.features, run.evaluation.feature_labels, run.class_names)


class Report(NamedTuple):
    """A page's template, one that extends ``report.html.j2``, what that shows beyond every run's values, and what is
    laid out by t-SNE."""

    template: str = "report.html.j2"
    values: Callable[[FinishedRun], dict[str, Any]] = lambda run: {}
    points: Callable[[FinishedRun], Points] = every_depth


REPORTS: Mapping[str, Report] = {
    ClassificationProtocol.name: Report("classification.html.j2", classification.values),
    EpisodeProtocol.name: Report("few_shot.html.j2", few_shot.values, few_shot.new_classes),
}
"""The pages of runs that show more than scores, by the name of their protocol."""


class Column(NamedTuple):
    """A metric of the tables, with a column for its interval where networks have one."""

    name: str
    how: MetricFormat
    interval: bool


def write_run_page(folder: Path, out: Path) -> None:
    """Write what a finished run says about itself as one HTML file that needs no network.

    Raises:
        UserError: not a finished run, a file of it is missing or damaged, or ``out`` cannot be written.
    """
    page.write(render(read_run(folder)), out)


def render(run: FinishedRun) -> str:
    """Return the page of a run; its words are in the templates, everything put into them is escaped."""
    report = REPORTS.get(run.record.protocol.name, Report())
    return page.fill(
        report.template,
        run=run,
        record=run.record,
        warnings=run.record.warnings,
        useless=run.record.useless,
        kept=page.KEPT[run.record.kept],
        columns=columns(run.record),
        class_names=run.class_names,
        settings=page.flat(run.settings),
        told_apart=theme.MOST_CLASSES_TOLD_APART,
        coloured=len(theme.TEN),
        headline_svg=headline_svg(run.record),
        **curves(run.metrics, run.record.protocol),
        **features(report.points(run)),
        **report.values(run),
    )


def columns(record: RunRecord) -> list[Column]:
    """Return the columns of every table of scores: the metrics that any network has on the test images."""
    networks = list(record.test.values())
    return [
        Column(name, how, any(name in scores and scores[name].low is not None for scores in networks))
        for name, how in record.protocol.shown(networks).items()
    ]


def headline_svg(record: RunRecord) -> str | None:
    """Draw the headline of every network on the test images; None where there is none beside the student."""
    if len(record.test) == 1:
        return None
    metrics = {who: record.headline(who) for who in record.test}
    return theme.svg(figures.metric_intervals(metrics, record.protocol.main), "headline")


def curves(metrics: pd.DataFrame, protocol: ProtocolRecord) -> dict[str, Any]:
    """Draw curves over the epochs: columns ``val/WHO/METRIC``, ``train/TERM`` and ``train/TERM/weighted``."""

    def found(pattern: str) -> dict[str, Any]:
        matches = ((column, re.fullmatch(pattern, column)) for column in metrics.columns)
        values = {match[1]: metrics[column].to_numpy(float) for column, match in matches if match}
        student_first = sorted(values, key=lambda name: name != "student")
        return {name: values[name] for name in student_first}

    epochs = metrics["epoch"].to_numpy()
    validated = {how: found(f"val/(.+)/{re.escape(name)}") for name, how in protocol.metrics.items()}
    validated = {how: lines for how, lines in validated.items() if lines}
    raw, weighted = found("train/([^/]+)"), found("train/([^/]+)/weighted")
    if "total" in raw:
        weighted["total"] = raw.pop("total")
    validation = figures.validation_curves(epochs, validated) if validated else None
    losses = figures.loss_curves(epochs, raw, weighted) if raw.keys() <= weighted.keys() and raw else None
    return {
        "validation_svg": validation and theme.svg(validation, "validation"),
        "curves": list(validated),
        "validated": list(dict.fromkeys(who for lines in validated.values() for who in lines)),
        "losses_svg": losses and theme.svg(losses, "losses"),
        "terms": list(raw),
    }


def features(points: Points) -> dict[str, Any]:
    """Draw t-SNE of the features at every depth, as in CORSD's Fig. 2, where there are enough samples for one."""
    samples, classes = len(points.labels), len(points.names)
    if samples < analysis.FEWEST_SAMPLES:
        return {"samples": samples, "laid_out": classes, "maps": [], "features_svg": None}
    depths = bar(points.features, "t-SNE of the features", "depth")
    maps = [analysis.feature_map(name, values, points.labels) for name, values in depths]
    drawing = theme.svg(figures.feature_maps(maps, points.labels, points.names), "features")
    return {"samples": samples, "laid_out": classes, "maps": maps, "features_svg": drawing}
