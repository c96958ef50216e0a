"""The table of a comparison as people read it: plain text, Markdown, LaTeX; pages take its sections as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import inf, isnan
from typing import NamedTuple

import pandas as pd

from classmates._text import aligned
from classmates.comparisons.numbers import digits, interval, mark, number, plus_minus, protocol_in, signed, unit
from classmates.comparisons.ranking import beside_published, gain, in_order
from classmates.comparisons.remarks import remarks
from classmates.comparisons.runs import further
from classmates.comparisons.verdict import as_lines, verdicts


class Section(NamedTuple):
    """A table of texts.

    marks: by line and column, the mark of cells that are clearly better (▲) or worse (▼) than the reference; such
    cells are bold. reference: the line of the reference; None where there is none to point out.
    """

    title: str
    heads: list[str]
    cells: list[list[str]]
    marks: Mapping[tuple[int, int], str]
    reference: int | None = None


def sections(table: pd.DataFrame) -> list[Section]:
    """Return scores, differences and published values, then costs, of each model and data set; no empty column."""
    finished = [part[part["seeds"] > 0] for part in _parts(table)]
    return [*map(_headline, _parts(table)), *(_costs(part) for part in finished if len(part))]


def statistics_sections(table: pd.DataFrame) -> list[Section]:
    """Return one section for each model and data set in which there are differences: how sure they are."""
    return [_statistics(part[part["pairs"] > 0]) for part in _parts(table) if (part["pairs"] > 0).any()]


def overview(table: pd.DataFrame) -> Section | None:
    """Return all models and data sets side by side; None where there is one."""
    parts = [part.set_index("row", drop=False) for part in _parts(table)]
    if len(parts) == 1:
        return None
    heads = ["method", *(_title(part) for part in parts)]
    rows = table["row"].drop_duplicates().tolist()
    if not beside_published(table):
        gains = pd.concat([gain(part) for part in parts], axis=1).mean(axis=1)
        rows.sort(key=lambda row: inf if isnan(gains[row]) else -gains[row])
    lines = [[part.loc[row] for part in parts] for row in rows]
    cells = [[row, *map(_score, line)] for row, line in zip(rows, lines, strict=True)]
    marks = {(n, m): mark(one) for n, line in enumerate(lines) for m, one in enumerate(line, start=1) if mark(one)}
    return Section(f"Everything, {unit(table)}", heads, cells, marks, _line_of(table["reference"].iloc[0], rows))


def as_text(table: pd.DataFrame) -> str:
    """Return the verdict, the sections with aligned columns, marks behind the scores, and the remarks."""
    blocks = ["\n".join(as_lines(verdicts(table)))]
    for section in sections(table):
        marked = [_marked(section, row, lambda cell, sign: f"{cell} {sign}") for row in range(len(section.cells))]
        lines = aligned([section.heads, *marked], left=len(section.heads))
        blocks.append("\n".join([section.title, "", *lines]))
    return "\n\n".join([*blocks, "\n".join(remarks(table))])


def as_markdown(table: pd.DataFrame, title: str) -> str:
    """Return the verdict, then overview, sections and statistics as Markdown tables, with the remarks; no HTML."""
    blocks = [f"## {title}", *(f"**{line}**" for line in as_lines(verdicts(table)))]
    blocks.append("\n".join(f"- {remark}" for remark in remarks(table)))
    for section in _every_section(table):
        lines = [section.heads, ["---", *["---:"] * (len(section.heads) - 1)]]
        lines += [_marked(section, row, lambda cell, sign: f"**{sign} {cell}**") for row in range(len(section.cells))]
        escaped = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        blocks.append("\n".join([f"### {section.title}", "", *escaped]))
    return escape("\n\n".join(blocks), quote=False) + "\n"


def as_latex(table: pd.DataFrame, title: str) -> str:
    """Return overview, sections and statistics as LaTeX tables (booktabs), verdict and remarks as comments."""
    heading = (title, *as_lines(verdicts(table)), "\\usepackage{booktabs}", *remarks(table))
    blocks = [f"% {line}" for line in heading]
    for section in _every_section(table):
        rows = [_in_latex(line) for line in section.cells]
        escaped = section._replace(cells=rows)
        bold = [
            _marked(escaped, row, lambda cell, sign: rf"\textbf{{{LATEX[sign]} {cell}}}") for row in range(len(rows))
        ]
        frame = pd.DataFrame(bold, columns=_in_latex(section.heads))
        styled = frame.style.hide(axis="index")
        blocks.append(
            styled.to_latex(
                hrules=True,
                column_format="l" + "r" * (len(section.heads) - 1),
                caption=_in_latex([f"{title}: {section.title}{_plus_minus(section)}"])[0],
                position="htbp",
                position_float="centering",
            )
        )
    return "\n".join(blocks)


def _plus_minus(section: Section) -> str:
    """Return what a table that stands alone, as in a paper, has to say of its scores."""
    spread = any(" ± " in cell for line in section.cells for cell in line)
    return "; mean ± standard deviation over seeds" if spread else ""


def _every_section(table: pd.DataFrame) -> list[Section]:
    first = overview(table)
    return [*([first] if first else []), *sections(table), *statistics_sections(table)]


def _parts(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame(part) for _, part in in_order(table).groupby(["data", "model"], sort=False)]


def _title(part: pd.DataFrame) -> str:
    return ", ".join(str(part[column].iloc[0]) for column in ("model", "data"))


def _headline(part: pd.DataFrame) -> Section:
    several = part["who"].nunique() > 1
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "seeds": lambda row: str(row["seeds"] or ""),
        unit(part): lambda row: _score(row) + (f" ({row['who']})" if several and row["seeds"] else ""),
        f"− {part['reference'].iloc[0]} [95 %]": _difference,
        "published": lambda row: row["published"],
        "ours − published": lambda row: signed(row["beyond_published"], digits(row)),
        **_beside(part),
        "note": lambda row: row["note"] if row["seeds"] else "",
    }
    return _section(_title(part), part, columns, score=2)


def _beside(part: pd.DataFrame) -> dict[str, Callable[[pd.Series], str]]:
    """Return the columns of the headline of other networks and of the student's metrics beside the score's."""
    protocol, scored = protocol_in(part), part["metric"].iloc[0]
    if protocol is None:
        return {}
    percent = ", %" if protocol.main.percent else ""
    of_networks = percent if scored == protocol.headline else f" {protocol.main.heading}"

    def network(name: str) -> Callable[[pd.Series], str]:
        return lambda row: plus_minus(row[name], row[f"{name}_std"], protocol.main.digits)

    def metric(name: str) -> Callable[[pd.Series], str]:
        return lambda row: number(row[name], f".{protocol.metrics[name].digits}f") if name in row else ""

    return {
        **{f"{name}{of_networks}": network(name) for name in ("peers", "ensemble")},
        **{protocol.metrics[name].heading: metric(name) for name in further(protocol, scored)},
    }


def _costs(part: pd.DataFrame) -> Section:
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "training, s": lambda row: number(row["seconds"], ",.0f"),
        "× training": lambda row: number(row["training_ratio"], ".2f"),
        "steps": lambda row: number(row["steps"], ",.0f"),
        "ms a step": lambda row: number(1000 * row["seconds_per_step"], ",.1f"),
        "× step": lambda row: number(row["time_ratio"], ".2f"),
        "MiB": lambda row: number(row["peak_memory_mib"], ",.0f"),
        "× memory": lambda row: number(row["memory_ratio"], ".2f"),
        "images seen": lambda row: number(row["image_passes"], ",.0f"),
    }
    return _section(f"{_title(part)}: cost of training, × that of {part['reference'].iloc[0]}", part, columns)


def _statistics(part: pd.DataFrame) -> Section:
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "pairs": lambda row: str(row["pairs"]),
        "difference": lambda row: signed(row["difference"], digits(row)),
        "95 %, t": lambda row: interval(row["low"], row["high"], digits(row)),
        "95 %, bootstrap": lambda row: interval(row["bootstrap_low"], row["bootstrap_high"], digits(row)),
        **_one_by_one(part),
        "p": lambda row: number(row["p"], ".3f"),
        "p, Holm": lambda row: number(row["p_holm"], ".3f"),
        "seeds to resolve it": lambda row: number(row["seeds_needed"], ",.0f"),
        "one run": lambda row: number(row["one_run"], f".{digits(row)}f", "± "),
    }
    return _section(f"{_title(part)}: differences to {part['reference'].iloc[0]}", part, columns)


def _one_by_one(part: pd.DataFrame) -> dict[str, Callable[[pd.Series], str]]:
    """Return the column of the intervals over seeds and episodes, or whatever else rows are paired by."""
    protocol = protocol_in(part)
    if protocol is None or "outcomes" not in part:
        return {}
    head = f"95 %, seeds and {protocol.counted}"
    return {head: lambda row: interval(row["outcome_low"], row["outcome_high"], digits(row))}


def _section(
    title: str, part: pd.DataFrame, columns: dict[str, Callable[[pd.Series], str]], score: int | None = None
) -> Section:
    cells = {head: [of(row) for _, row in part.iterrows()] for head, of in columns.items()}
    kept = [head for number, head in enumerate(columns) if number < 3 or any(cells[head])]
    rows = [list(row) for row in zip(*(cells[head] for head in kept), strict=True)]
    lines = [line for _, line in part.iterrows()]
    marks = {} if score is None else {(n, score): mark(line) for n, line in enumerate(lines) if mark(line)}
    return Section(title, kept, rows, marks, _line_of(part["reference"].iloc[0], part["row"].tolist()))


def _line_of(reference: str, rows: Sequence[str]) -> int | None:
    return rows.index(reference) if reference in rows else None


def _marked(section: Section, row: int, how: Callable[[str, str], str]) -> list[str]:
    """Return a row's cells, those with a mark as ``how`` writes cell and mark."""
    signs = [section.marks.get((row, column)) for column in range(len(section.heads))]
    return [how(cell, sign) if sign else cell for cell, sign in zip(section.cells[row], signs, strict=True)]


def _score(row: pd.Series) -> str:
    return plus_minus(row["mean"], row["std"], digits(row)) if row["seeds"] else row["note"]


def _difference(row: pd.Series) -> str:
    if row["row"] == row["reference"]:
        return "reference" if row["seeds"] else ""
    places = digits(row)
    return f"{signed(row['difference'], places)} {interval(row['low'], row['high'], places)}".strip()


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}  # else other signs in the usual encoding
LATEX |= {"±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "→": r"$\to$", "▲": r"$\uparrow$", "▼": r"$\downarrow$"}


def _in_latex(cells: Sequence[str]) -> list[str]:
    return ["".join(LATEX.get(character, character) for character in cell) for cell in cells]
