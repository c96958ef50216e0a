"""The files that a comparison is read from: tables, figures and one HTML page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from classmates._csv import as_csv
from classmates._files import slug, write_text
from classmates.comparisons.differences import setting_differences
from classmates.comparisons.drawings import Drawing, Material, draw
from classmates.comparisons.figure_data import read_members
from classmates.comparisons.formats import (
    as_latex,
    as_markdown,
    as_text,
    overview,
    sections,
    statistics_sections,
)
from classmates.comparisons.recipe import Recipe
from classmates.comparisons.remarks import remarks
from classmates.comparisons.runs import DONE, VERSIONS, protocol_of
from classmates.comparisons.tables import comparison_table, finished_runs, ordered
from classmates.comparisons.verdict import verdicts
from classmates.data.fingerprints import digest
from classmates.reporting import page, theme

__all__ = ["as_text", "comparison_table", "write_comparison"]


def write_comparison(folder: Path, recipe: Recipe, runs: pd.DataFrame, out: Path | None = None) -> None:
    """Write table.md, table.tex, table.csv, runs.csv, figures/ and report.html into a comparison's folder.

    Each file is whole or as it was before; a finished run with damaged files is in the tables and is named in the
    report, but is in no figure.

    Args:
        folder: of the comparison.
        recipe: what was compared.
        runs: one line a run, of the columns of :func:`classmates.comparisons.runs.columns`.
        out: the page; without it, ``report.html`` in the folder.

    Raises:
        UserError: the page cannot be written, or the runs do not have the figure that the recipe asks for.
    """
    out = folder / "report.html" if out is None else out
    table = comparison_table(runs, recipe)
    write_text(folder / "table.csv", as_csv(table))
    write_text(folder / "table.md", as_markdown(table, recipe.headline))
    write_text(folder / "table.tex", as_latex(table, recipe.headline))
    places = [_relative(Path(run), folder / "runs.csv") for run in runs["folder"]]  # so that the folder may move
    write_text(folder / "runs.csv", as_csv(runs.assign(folder=places)))
    rows = ordered(recipe.rows, runs["row"])
    finished = finished_runs(runs, recipe)
    members, problems = read_members(finished, rows)
    drawings, missing = draw(recipe.figures, Material(table, finished, members, rows))
    equal, different = setting_differences((member.row, member.run.settings) for member in members)
    filled = page.fill(
        "comparison.html.j2",
        recipe=recipe,
        states=Counter(runs["status"]),
        verdicts=verdicts(table),
        protocol=protocol_of(runs),
        kept=kept_epochs(runs),
        compared=int(table["p"].notna().sum()),
        overview=overview(table),
        sections=sections(table),
        statistics=statistics_sections(table),
        remarks=remarks(table),
        drawings=[saved(drawing, folder / "figures") for drawing in drawings],
        missing_figures=missing,
        equal=equal,
        different=different,
        problems=problems,
        failures=runs[runs["status"] == "failed"].to_dict("records"),
        unplanned=Counter(status for status in runs["status"] if status.startswith("other ")),
        runs=[_shown(run, out) for run in runs.to_dict("records") if run["status"] == DONE],
        environments=environments(runs),
        folder=folder.name,
        figures=_relative(folder / "figures", out),
    )
    page.write(filled, out)


def kept_epochs(runs: pd.DataFrame) -> str:
    """Return the epoch whose networks the finished runs are scored by, with the rows of each where they differ."""
    finished = runs[runs["status"] == DONE]
    rows = {epoch: finished.loc[finished["kept"] == kept, "row"].unique() for kept, epoch in page.KEPT.items()}
    found = {epoch: of for epoch, of in rows.items() if len(of)}
    if len(found) < 2:
        return next(iter(found), page.KEPT["last"])
    return " or ".join(f"{epoch} ({', '.join(of)})" for epoch, of in found.items())


def saved(drawing: Drawing, folder: Path) -> dict[str, Any]:
    """Write the drawing as SVG and PNG, and the CSV of each table behind it; return what the page shows of it."""
    name, tables = file_name(drawing.name), {file_name(table): frame for table, frame in drawing.tables.items()}
    for table, frame in tables.items():
        write_text(folder / f"{table}.csv", as_csv(frame))
    element = theme.save(drawing.figure, folder / name)
    return {"name": name, "title": drawing.title, "caption": drawing.caption, "svg": element, "tables": [*tables]}


def file_name(drawing: str) -> str:
    """Return a name for the files of a drawing or of a table behind it, which no other's of the page is."""
    name = slug(drawing)
    return name if len(name) < 40 else f"{name[:33]}-{digest(drawing)[:6]}"


def environments(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return versions and hardware of the finished runs: each different set once, with its number of ``runs``."""
    finished = runs.loc[runs["status"] == DONE, list(VERSIONS)].astype(object).fillna("unknown")
    found = Counter(finished.itertuples(index=False, name=None))
    return [{"runs": count, **dict(zip(VERSIONS, values, strict=True))} for values, count in found.items()]


def _shown(run: Mapping[Any, Any], out: Path) -> dict[str, Any]:
    """Return a run's line, with the ways from the page to those of its files that are there."""
    own = Path(run["folder"])
    files = {
        "report": own / "report.html",
        "settings": own / "config.yaml",
        "result": own / "result.json",
        "log": own.parent.parent / "jobs" / f"{own.name}.log",
    }
    return {**run, "links": {name: _relative(file, out) for name, file in files.items() if file.is_file()}}


def _relative(target: Path, page_file: Path) -> str:
    """Return the address of a file as a link on the page has it."""
    return Path(os.path.relpath(target, page_file.resolve().parent)).as_posix()
