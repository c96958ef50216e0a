"""The table of answers that ``predict`` gives: its columns, and how it is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import Tensor

from classmates._csv import as_csv
from classmates._names import in_unicode
from classmates._text import aligned, plural

Show = Literal["table", "csv", "jsonl"]
"""The form in which a command prints the table."""
COUNTED = 10
"""The most classes whose images a summary counts, each by itself."""


@dataclass(frozen=True)
class TrainedClasses:
    """The answers that logits give. names: [K], of the classes."""

    names: tuple[str, ...]

    def columns(self, logits: Tensor, top: int) -> dict[str, list[Any]]:
        """Return the columns of ``predict``'s table, [N · top], the most probable class first. logits: [N, K]."""
        probabilities, numbers = logits.double().softmax(dim=1).topk(top)
        return {
            "class": [self.names[number] for number in numbers.flatten().tolist()],
            "probability": probabilities.flatten().tolist(),
        }


def as_json_lines(frame: pd.DataFrame) -> str:
    """Return a table as JSON, a line for each row."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in frame.to_dict("records"))


WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    ".csv": as_csv,
    ".json": lambda frame: json.dumps(frame.to_dict("records"), indent=2, ensure_ascii=False),
    ".jsonl": as_json_lines,
}
"""How a table is written to a file, by its suffix."""


def shown(frame: pd.DataFrame) -> str:
    """Return the table as the command prints it, in the form that ``predict`` was asked for."""
    form: Show = frame.attrs.get("show", "table")
    return frame.to_string(index=False) if form == "table" else WRITERS[f".{form}"](frame).rstrip("\n")


def summary(frame: pd.DataFrame, file: Path) -> str:
    """Return what the command prints of a table that is in a file: how many images are of which class."""
    first = frame[frame["rank"] == 1] if "rank" in frame else frame
    counts = Counter(first["class"]).most_common()
    rows = [(name, f"{count:,}") for name, count in counts[:COUNTED]]
    if rest := counts[COUNTED:]:
        others = f"and {plural(len(rest), 'more class', 'more classes')}"
        rows.append((others, f"{sum(count for _, count in rest):,}"))
    head = f"{plural(len(first), 'image')}, by the class that was predicted:"
    return "\n".join([head, *(f"  {line}" for line in aligned(rows)), f"Table: {in_unicode(str(file))}"])
