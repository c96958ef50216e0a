"""The table of a comparison as people read it: plain text, Markdown, LaTeX; pages take its sections as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from classmates.comparisons.runs import further
from classmates.comparisons.tables import remarks
from classmates.tasks.protocol import MetricFormat, ProtocolRecord


class Section(NamedTuple):
    """A table of texts; ``bold`` marks the rows whose ``score`` column is."""

    title: str
    heads: list[str]
    cells: list[list[str]]
    bold: list[bool]
    score: int | None = None


def sections(table: pd.DataFrame) -> list[Section]:
    """Return scores, differences and published values, then costs, of each model and data set; no empty column."""
    finished = [part[part["seeds"] > 0] for part in _parts(table)]
    return [*map(_headline, _parts(table)), *(_costs(part) for part in finished if len(part))]


def statistics_sections(table: pd.DataFrame) -> list[Section]:
    """Return one section for each model and data set in which there are differences: how sure they are."""
    return [_statistics(part[part["pairs"] > 0]) for part in _parts(table) if (part["pairs"] > 0).any()]


def overview(table: pd.DataFrame) -> Section | None:
    """Return all models and data sets side by side; None where there is one."""
    parts = _parts(table)
    if len(parts) == 1:
        return None
    heads = ["method", *(_title(part) for part in parts)]
    rows = table["row"].drop_duplicates().tolist()
    cells = [[row, *(_score(part[part["row"] == row].iloc[0]) for part in parts)] for row in rows]
    return Section(f"Everything, {unit(table)}", heads, cells, [False] * len(rows))


def as_text(table: pd.DataFrame) -> str:
    """Return the sections with aligned columns, ``*`` for bold, and the remarks."""
    blocks = []
    for section in sections(table):
        marked = [_marked(section, row, "CELL *") for row in range(len(section.cells))]
        widths = [max(map(len, column)) for column in zip(section.heads, *marked, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (section.heads, *marked)
        ]
        blocks.append("\n".join([section.title, "", *lines]))
    return "\n\n".join([*blocks, "\n".join(remarks(table))])


def as_markdown(table: pd.DataFrame, title: str) -> str:
    """Return overview, sections and statistics as Markdown tables, with the remarks."""
    blocks = [f"## {title}", "\n".join(f"- {remark}" for remark in remarks(table))]
    for section in _every_section(table):
        lines = [section.heads, ["---", *["---:"] * (len(section.heads) - 1)]]
        lines += [_marked(section, row, "**CELL**") for row in range(len(section.cells))]
        escaped = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        blocks.append("\n".join([f"### {section.title}", "", *escaped]))
    return "\n\n".join(blocks) + "\n"


def as_latex(table: pd.DataFrame, title: str) -> str:
    """Return overview, sections and statistics as tables for LaTeX's booktabs package, the remarks as comments."""
    blocks = [f"% {line}" for line in (title, "\\usepackage{booktabs}", *remarks(table))]
    for section in _every_section(table):
        rows = [_in_latex(line) for line in section.cells]
        escaped = section._replace(cells=rows)
        marked = [_marked(escaped, row, r"\textbf{CELL}") for row in range(len(rows))]
        frame = pd.DataFrame(marked, columns=_in_latex(section.heads))
        styled = frame.style.hide(axis="index")
        blocks.append(
            styled.to_latex(
                hrules=True,
                column_format="l" + "r" * (len(section.heads) - 1),
                caption=_in_latex([f"{title}: {section.title}"])[0],
                position="htbp",
                position_float="centering",
            )
        )
    return "\n".join(blocks)


def _every_section(table: pd.DataFrame) -> list[Section]:
    first = overview(table)
    return [*([first] if first else []), *sections(table), *statistics_sections(table)]


def _parts(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame(part) for _, part in table.groupby(["data", "model"], sort=False)]


def _title(part: pd.DataFrame) -> str:
    return ", ".join(str(part[column].iloc[0]) for column in ("model", "data"))


def unit(part: pd.DataFrame) -> str:
    """Return what the scores are: ``student top-1 accuracy, %``; without whose they are where that differs by row."""
    who = f"{part['who'].iloc[0]} " if part["who"].nunique() == 1 else ""
    how = score_format(part.iloc[0])
    if how is None:
        return f"{who}score"
    if how.percent and how.better == "more":
        return f"{who}{how.title} {part['scale'].iloc[0]}, %"
    return f"{who}{how.heading}"


def protocol_in(part: pd.DataFrame) -> ProtocolRecord | None:
    """Return how the runs of a table were judged; None where none has finished."""
    protocol = part["protocol"].iloc[0]
    return protocol if isinstance(protocol, ProtocolRecord) else None


def score_format(row: pd.Series) -> MetricFormat | None:
    """Return how the score of a line is written; None where no run has finished."""
    return row["protocol"].metrics[row["metric"]] if isinstance(row["protocol"], ProtocolRecord) else None


def _headline(part: pd.DataFrame) -> Section:
    several = part["who"].nunique() > 1
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "seeds": lambda row: str(row["seeds"] or ""),
        unit(part): lambda row: _score(row) + (f" ({row['who']})" if several and row["seeds"] else ""),
        f"− {part['reference'].iloc[0]} [95 %]": _difference,
        "published": lambda row: row["published"],
        "ours − published": lambda row: signed(row["beyond_published"], digits(row)),
        **_beside(protocol_in(part)),
        "note": lambda row: row["note"] if row["seeds"] else "",
    }
    return _section(_title(part), part, columns, score=2)


def _beside(protocol: ProtocolRecord | None) -> dict[str, Callable[[pd.Series], str]]:
    """Return the columns of the headline of other networks and of the student's other metrics."""
    if protocol is None:
        return {}
    percent = ", %" if protocol.main.percent else ""

    def network(name: str) -> Callable[[pd.Series], str]:
        return lambda row: plus_minus(row[name], row[f"{name}_std"], protocol.main.digits)

    def metric(name: str) -> Callable[[pd.Series], str]:
        return lambda row: _number(row[name], f".{protocol.metrics[name].digits}f") if name in row else ""

    return {
        **{f"{name}{percent}": network(name) for name in ("peers", "ensemble")},
        **{protocol.metrics[name].heading: metric(name) for name in further(protocol)},
    }


def _costs(part: pd.DataFrame) -> Section:
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "training, s": lambda row: _number(row["seconds"], ",.0f"),
        "× training": lambda row: _number(row["training_ratio"], ".2f"),
        "steps": lambda row: _number(row["steps"], ",.0f"),
        "ms a step": lambda row: _number(1000 * row["seconds_per_step"], ",.1f"),
        "× step": lambda row: _number(row["time_ratio"], ".2f"),
        "MiB": lambda row: _number(row["peak_memory_mib"], ",.0f"),
        "× memory": lambda row: _number(row["memory_ratio"], ".2f"),
        "images seen": lambda row: _number(row["image_passes"], ",.0f"),
    }
    return _section(f"{_title(part)}: cost of training, × that of {part['reference'].iloc[0]}", part, columns)


def _statistics(part: pd.DataFrame) -> Section:
    columns: dict[str, Callable[[pd.Series], str]] = {
        "method": lambda row: row["row"],
        "pairs": lambda row: str(row["pairs"]),
        "difference": lambda row: signed(row["difference"], digits(row)),
        "95 %, t": lambda row: _interval(row["low"], row["high"], digits(row)),
        "95 %, bootstrap": lambda row: _interval(row["bootstrap_low"], row["bootstrap_high"], digits(row)),
        "p": lambda row: _number(row["p"], ".3f"),
        "p, Holm": lambda row: _number(row["p_holm"], ".3f"),
        "seeds to resolve it": lambda row: _number(row["seeds_needed"], ",.0f"),
        "one run": lambda row: _number(row["one_run"], f".{digits(row)}f", "± "),
    }
    return _section(f"{_title(part)}: differences to {part['reference'].iloc[0]}", part, columns)


def _section(
    title: str, part: pd.DataFrame, columns: dict[str, Callable[[pd.Series], str]], score: int | None = None
) -> Section:
    cells = {head: [of(row) for _, row in part.iterrows()] for head, of in columns.items()}
    kept = [head for number, head in enumerate(columns) if number < 3 or any(cells[head])]
    rows = [list(row) for row in zip(*(cells[head] for head in kept), strict=True)]
    return Section(title, kept, rows, part["marked"].tolist(), score)


def _marked(section: Section, row: int, mark: str) -> list[str]:
    """Return a row's cells, its score put into ``mark`` (for CELL) where the row is bold."""
    cells = list(section.cells[row])
    if section.bold[row] and section.score is not None:
        cells[section.score] = mark.replace("CELL", cells[section.score])
    return cells


def _score(row: pd.Series) -> str:
    return plus_minus(row["mean"], row["std"], digits(row)) if row["seeds"] else row["note"]


def _difference(row: pd.Series) -> str:
    places = digits(row)
    return f"{signed(row['difference'], places)} {_interval(row['low'], row['high'], places)}".strip()


def _interval(low: float, high: float, places: int) -> str:
    return f"[{signed(low, places)}, {signed(high, places)}]" if pd.notna(low) else ""


def digits(row: pd.Series) -> int:
    """Return the decimal places of the score of a line."""
    how = score_format(row)
    return 2 if how is None else how.digits


def plus_minus(mean: float, std: float, places: int = 2) -> str:
    """Return ``98.30 ± 0.21``, the mean alone where there is no spread, nothing for NaN."""
    return _number(mean, f".{places}f") + _number(std, f".{places}f", " ± ")


def signed(value: float, places: int = 2) -> str:
    """Return a number with its sign; nothing for NaN."""
    return _number(value, f"+.{places}f").replace("-", "−")


def _number(value: float, how: str, before: str = "") -> str:
    return f"{before}{value:{how}}" if pd.notna(value) else ""


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
LATEX |= {"±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "→": r"$\to$"}


def _in_latex(cells: Sequence[str]) -> list[str]:
    return ["".join(LATEX.get(character, character) for character in cell) for cell in cells]
