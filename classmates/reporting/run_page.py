"""The report of a run: its numbers and figures in one HTML file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from classmates.reporting import analysis, classification, figures, page, theme
from classmates.reporting.beside import verdict_beside
from classmates.runs.reading import Evaluation, FinishedRun, read_run
from classmates.runs.record import RunRecord
from classmates.tasks.classification import ClassificationProtocol
from classmates.tasks.protocol import MetricFormat, ProtocolRecord


class Report(NamedTuple):
    """A page's template, one that extends ``report.html.j2``, and what that shows beyond every run's values."""

    template: str = "report.html.j2"
    values: Callable[[FinishedRun], dict[str, Any]] = lambda run: {}


REPORTS: Mapping[str, Report] = {
    ClassificationProtocol.name: Report("classification.html.j2", classification.values),
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
        beside=verdict_beside(run.folder),
        columns=columns(run.record),
        class_names=run.class_names,
        settings=page.flat(run.settings),
        told_apart=theme.MOST_CLASSES_TOLD_APART,
        coloured=len(theme.TEN),
        headline_svg=headline_svg(run.record),
        **curves(run.metrics, run.record.protocol),
        **features(run.evaluation, run.class_names),
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


def features(evaluation: Evaluation, names: list[str]) -> dict[str, Any]:
    """Draw t-SNE of the features at every depth, as in CORSD's Fig. 2, where there are enough samples for one."""
    samples = len(evaluation.feature_labels)
    if samples < analysis.FEWEST_SAMPLES:
        return {"samples": samples, "maps": [], "features_svg": None}
    depths = tqdm(evaluation.features, desc="t-SNE of the features", unit="depth", leave=False, disable=None)
    maps = [analysis.feature_map(name, values, evaluation.feature_labels) for name, values in depths]
    drawing = figures.feature_maps(maps, evaluation.feature_labels, names)
    return {"samples": samples, "maps": maps, "features_svg": theme.svg(drawing, "features")}
