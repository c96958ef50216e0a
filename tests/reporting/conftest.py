"""Pages of runs, and what they hold."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from classmates.reporting.run_page import render
from classmates.runs.reading import read_run

Change = Callable[[Path, Callable[[Any], object]], None]


class Page(HTMLParser):
    """The elements of a page, its attributes that can load something, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def quick_page(folder: Path, **fields: Any) -> str:
    """The page of a run without t-SNE, its record with further fields."""
    run = read_run(folder)
    few = replace(run.evaluation, feature_labels=run.evaluation.feature_labels[:3])
    for name, value in fields.items():
        object.__setattr__(run.record, name, value)
    return render(replace(run, evaluation=few))
