"""The scores of a trained student, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from classmates._names import in_unicode
from classmates._shown import Shown
from classmates._text import aligned, filled
from classmates.tasks.protocol import Metric, ProtocolRecord, Scores

IF_USELESS = (
    "Look whether they are like those it was trained on, in folders of the right classes; `classmates data` shows "
    "them"
)
"""What to do about a student that is at chance."""


class StudentScores(Shown, dict[str, Metric]):
    """The metrics of a student by name, as in ``scores["top1"].value``; as text, a table.

    Args:
        scores: of the student.
        protocol: how it was judged.
        drawn: the hash of what was drawn to judge by, such as a list of episodes; None without.
        temperature: by which logits were divided; None where they are as the student gives them.
        before: the scores without that.
        corruptions: the scores on corrupted images by name of the corruption, from severity 1 on; empty without.
        at_chance: the words for a student that is no better than always giving the commonest answer; None for
            others.
        files: those that were written, by what they hold.
    """

    def __init__(
        self,
        scores: Scores,
        protocol: ProtocolRecord,
        drawn: str | None = None,
        temperature: float | None = None,
        before: Scores | None = None,
        corruptions: Mapping[str, list[Scores]] | None = None,
        at_chance: str | None = None,
        files: Mapping[str, Path] | None = None,
    ):
        super().__init__(scores)
        self.protocol = protocol
        self.drawn = drawn
        self.temperature = temperature
        self.before = before
        self.corruptions = dict(corruptions or {})
        self.at_chance = at_chance
        self.files = dict(files or {})

    @property
    def headline(self) -> str:
        main = self.protocol.main
        return f"{main.name} {main.text(self[self.protocol.headline].value)}"

    def __str__(self) -> str:
        count = self[self.protocol.headline].count
        if self.before is None:
            parts = [self.protocol.table(self.protocol.counted, {str(count): self})]
        else:
            lines = {"as trained": self.before, "calibrated": self}
            parts = [self.protocol.table(f"{count} {self.protocol.counted}", lines)]
            parts += [f"calibrated: logits divided by {self.temperature:.4g}, fitted on validation images"]
        if self.corruptions:
            parts.append(self._by_severity())
        if self.files:
            parts.append("\n".join(f"{what}: {in_unicode(str(file))}" for what, file in self.files.items()))
        if self.at_chance is not None:
            warning = f"WARNING: the student is useless on these images: {self.at_chance}. {IF_USELESS}"
            parts.append("\n".join(filled(warning)))
        return "\n\n".join(parts)

    def _by_severity(self) -> str:
        """Return the headline on corrupted images: a line a corruption, a column a severity, and their means."""
        main, name = self.protocol.main, self.protocol.headline
        values = {label: [scores[name].value for scores in each] for label, each in self.corruptions.items()}
        values["mean"] = [fmean(of_one) for of_one in zip(*values.values(), strict=True)]
        severities = [*map(str, range(1, len(values["mean"]) + 1)), "mean"]
        rows = [[label.replace("_", " "), *map(main.text, (*each, fmean(each)))] for label, each in values.items()]
        return "\n".join(aligned([[f"{main.title} by severity", *severities], *rows]))

    def to_json(self) -> str:
        """Return the metrics as JSON, each as in a run's ``result.json``; beside them what was drawn, if it was."""
        metrics: dict[str, Any] = {name: asdict(metric) for name, metric in self.items()}
        drawn = {} if self.drawn is None else {"drawn": self.drawn, "settings": dict(self.protocol.settings)}
        divided = {} if self.temperature is None else {"temperature": self.temperature}
        worse = {
            name: [{metric: asdict(found) for metric, found in scores.items()} for scores in each]
            for name, each in self.corruptions.items()
        }
        corrupted = {"corruptions": worse} if worse else {}
        return json.dumps(metrics | drawn | divided | corrupted, indent=2)
