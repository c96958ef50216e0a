"""A comparison's table as text, Markdown and LaTeX."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from classmates.comparisons.formats import (
    as_latex,
    as_markdown,
    as_text,
    overview,
    sections,
    statistics_sections,
)
from classmates.comparisons.numbers import unit
from classmates.comparisons.recipe import Recipe, ScoreChoice
from classmates.comparisons.tables import comparison_table

COSTS = {"seconds": 75.0, "steps": 6000, "seconds_per_step": 0.0125, "peak_memory_mib": 140.0, "image_passes": 4500}
"""Of MCL, each in another proportion to those of the other rows."""


@pytest.fixture
def table(frame_of: Callable[..., pd.DataFrame], recipe: Recipe) -> pd.DataFrame:
    base = [0.70, 0.72, 0.71]
    tops = {
        "Baseline": base,
        "MCL": [top1 + 0.04 + 0.01 * seed for seed, top1 in enumerate(base)],
        "beta_0.2 & more": [top1 - 0.01 * seed for seed, top1 in enumerate(base)],
    }
    costs = {"MCL": COSTS}
    runs = [
        {"row": row, "seed": seed, "student": top1, **costs.get(row, {})}
        for row in tops
        for seed, top1 in enumerate(tops[row])
    ]
    return comparison_table(frame_of(runs), recipe)


def test_a_section_has_what_is_there(table: pd.DataFrame) -> None:
    section, cost = sections(table)
    assert section.heads[:6] == [
        *("method", "seeds", "student top-1 accuracy, %", "− Baseline [95 %]", "published", "ours − published"),
    ]
    assert "peers, %" not in section.heads
    assert section.cells[0][:6] == ["Baseline", "3", "71.00 ± 1.00", "reference", "70.00 ± 0.50", "+1.00"]
    assert section.cells[1][:4] == ["DML", "", "not run", ""]
    assert section.cells[2][3] == "+5.00 [+2.52, +7.48]"
    assert section.cells[3][3] == "−1.00 [−3.48, +1.48]"
    assert section.marks == {(2, 2): "▲"}
    assert section.reference == 0
    assert cost.heads == [
        *("method", "training, s", "× training", "steps", "ms a step", "× step", "MiB", "× memory", "images seen"),
    ]
    assert cost.cells[0] == ["Baseline", "30", "1.00", "3,000", "10.0", "1.00", "100", "1.00", "1,500"]
    assert cost.cells[1] == ["MCL", "75", "2.50", "6,000", "12.5", "1.25", "140", "1.40", "4,500"]
    assert [line[0] for line in cost.cells] == ["Baseline", "MCL", "beta_0.2 & more"]


def test_whatever_a_table_is_scored_by_every_other_metric_stands_beside_it_once(frame_of, recipe) -> None:
    ran = [{"row": row, "seed": 0, "student": 0.7, "peers": 0.6} for row in ("Baseline", "MCL")]
    runs = frame_of(ran).assign(nll=0.9, ece=0.05)
    written = {"top1": ("top-1, %", "70.00"), "nll": ("NLL", "0.900"), "ece": ("ECE, %", "5.00")}
    for metric, peers in {"top1": "peers, %", "nll": "peers top-1, %", "ece": "peers top-1, %"}.items():
        table = comparison_table(runs, replace(recipe, score=ScoreChoice(metric=metric)))
        section = sections(table)[0]
        values = dict(zip(section.heads, next(line for line in section.cells if line[0] == "MCL"), strict=True))
        (own, score), others = written[metric], [pair for name, pair in written.items() if name != metric]
        assert values[unit(table)] == score
        assert own not in values
        assert {**values, **dict(others), peers: "60.00"} == values


def test_statistics_are_of_the_rows_that_have_any(table: pd.DataFrame) -> None:
    (section,) = statistics_sections(table)
    assert section.title == "tiny, digits: differences to Baseline"
    assert section.heads == [
        *("method", "pairs", "difference", "95 %, t", "95 %, bootstrap", "p", "p, Holm", "seeds to resolve it"),
        "one run",
    ]
    # The t of the paired tests is 5 · √3 and −√3, of two degrees of freedom: p is 0.0131 and 0.2254.
    mcl, other = section.cells
    assert mcl == ["MCL", "3", "+5.00", "[+2.52, +7.48]", "[+4.00, +6.00]", "0.013", "0.026", "3", "± 5.88"]
    assert other[1:8] == ["3", "−1.00", "[−3.48, +1.48]", "[−2.00, +0.00]", "0.225", "0.225", "10"]


def test_the_interval_over_seeds_and_images_stands_after_that_over_seeds(table: pd.DataFrame) -> None:
    (section,) = statistics_sections(table.assign(outcome_low=1.25, outcome_high=8.5))
    assert section.heads[4:7] == ["95 %, bootstrap", "95 %, seeds and images", "p"]
    assert section.cells[0][4:7] == ["[+4.00, +6.00]", "[+1.25, +8.50]", "0.013"]


def test_models_stand_side_by_side(table: pd.DataFrame) -> None:
    assert overview(table) is None
    found = overview(pd.concat([table, table.assign(model="other", mean=50.0)]))
    assert found is not None
    assert found.heads == ["method", "tiny, digits", "other, digits"]
    assert found.cells[2] == ["MCL", "76.00 ± 1.73", "50.00 ± 1.73"]
    assert found.marks == {(2, 1): "▲", (2, 2): "▲"}


def test_rows_are_printed_best_first(table: pd.DataFrame) -> None:
    """Those beside a paper's values are printed in the paper's order, as the other tests have it."""
    own = table.assign(published="", published_number=float("nan"))
    headline, cost = sections(own)
    assert [line[0] for line in headline.cells] == ["MCL", "Baseline", "beta_0.2 & more", "DML"]
    assert [line[0] for line in cost.cells] == ["MCL", "Baseline", "beta_0.2 & more"]
    assert (headline.reference, headline.marks) == (1, {(0, 2): "▲"})
    assert [line[0] for line in statistics_sections(own)[0].cells] == ["MCL", "beta_0.2 & more"]
    found = overview(pd.concat([own, own.assign(model="other")]))
    assert found is not None
    assert [line[0] for line in found.cells] == ["MCL", "Baseline", "beta_0.2 & more", "DML"]
    assert found.reference == 1


def test_what_is_worse_is_marked_as_clearly(table: pd.DataFrame) -> None:
    worse = table.assign(marked=False, marked_worse=table["marked"])
    assert "76.00 ± 1.73 ▼" in as_text(worse)
    assert "| **▼ 76.00 ± 1.73** |" in as_markdown(worse, "A title")
    assert r"\textbf{$\downarrow$ 76.00 $\pm$ 1.73}" in as_latex(worse, "A title")


def test_the_verdict_comes_first(table: pd.DataFrame) -> None:
    verdict = "MCL: +5.00 points over Baseline [+2.52, +7.48], 3 seeds."
    assert as_text(table).startswith(verdict)
    assert as_markdown(table, "A title").startswith(f"## A title\n\n**{verdict}")
    assert as_latex(table, "A title").splitlines()[1].startswith(f"% {verdict}")


def test_text_has_aligned_columns_and_stars(table: pd.DataFrame) -> None:
    text = as_text(table)
    lines = text.splitlines()
    heads = next(line for line in lines if line.startswith("method"))
    place = heads.index("student top-1")
    assert [line[place:].split("  ")[0] for line in lines[lines.index(heads) + 1 :][:4]] == [
        *("71.00 ± 1.00", "not run", "76.00 ± 1.73 ▲", "70.00 ± 1.00"),
    ]
    assert "▲ clearly better, ▼ clearly worse than Baseline" in text


def test_markdown_tables_are_tables(table: pd.DataFrame) -> None:
    text = as_markdown(table.replace("DML", "a|b"), "A title")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "\n- ▲ clearly better" in text
    assert "| **▲ 76.00 ± 1.73** |" in text
    assert text.count("**") == 4
    assert r"| a\|b |" in text
    for first, last in ((0, 6), (6, 11), (11, len(rows))):
        assert len({row.replace(r"\|", "").count("|") for row in rows[first:last]}) == 1


def test_latex_is_escaped_booktabs(table: pd.DataFrame) -> None:
    text = as_latex(table, "50 % & more")
    odd = as_latex(table.assign(model="lr > 0.1 <b> a|b"), "x")
    assert r"lr \textgreater{} 0.1 \textless{}b\textgreater{} a\textbar{}b" in odd
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert r"\textbf{$\uparrow$ 76.00 $\pm$ 1.73}" in text
    assert r"beta\_0.2 \& more &" in text
    assert r"\caption{50 \% \& more: tiny, digits; mean $\pm$ standard deviation over seeds}" in text
    assert not any(ord(character) > 127 for line in text.splitlines() for character in line if line[:1] != "%")


def test_rows_with_another_score_say_so(table: pd.DataFrame) -> None:
    mixed = table.assign(who=["student", "student", "ensemble", "student"])
    section, _ = sections(mixed)
    assert section.heads[2] == "top-1 accuracy, %"
    assert unit(table) == "student top-1 accuracy, %"
    assert unit(table.assign(metric="nll")) == "student NLL"
    assert unit(table.assign(metric="ece")) == "student ECE, %"
    assert unit(table.assign(protocol=None)) == "student score"
    assert [line[2] for line in section.cells][1:3] == ["not run", "76.00 ± 1.73 (ensemble)"]
