"""The verdict on a network: by how much a method makes it better on test images, and which student to deploy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from classmates._files import write_text
from classmates._shown import Shown
from classmates._text import filled
from classmates.comparisons.statistics import ImageDifference
from classmates.reporting.theme import shortened
from classmates.runs.predict_command import predict_command
from classmates.tasks.protocol import MetricFormat

BASELINE = "Baseline"
FEW_GROUPS = 10
"""With fewer groups of test images an interval by resampling them is too narrow."""


class Tried(NamedTuple):
    """A method that was tried.

    by_seed: the student's headline on validation images with each seed that every method has finished; empty without
    one. cost: its training time, 1 being Baseline's. finished, planned: runs. status: of the runs.
    """

    method: str
    by_seed: tuple[float, ...]
    cost: float | None
    finished: int
    planned: int
    status: str

    @property
    def validation(self) -> float | None:
        """The mean over the seeds; None without one."""
        return fmean(self.by_seed) if self.by_seed else None

    def plain(self) -> dict[str, Any]:
        """Return it as ``verdict.json`` holds it."""
        return {"method": self.method, "validation": self.validation, **self._asdict()}


class Look(NamedTuple):
    """A look at test images.

    images: their hash. headline: what the verdict said. runs: a hash of those whose students looked; none is known
    of verdicts of earlier versions.
    """

    images: str
    headline: str
    runs: str = ""


@dataclass(frozen=True, repr=False)
class Improvement(Shown):
    """The methods tried to make a network better, and the result on test images; as text, the verdict.

    Args:
        folder: where everything is; the student to deploy is in its folder ``student``.
        metric: how the headline is written.
        counted: what the test images are called.
        images: how many of them there are.
        test_hash: of them, by which they are known again.
        judged: a hash of the runs whose students were judged by them.
        seeds: those that every method has finished.
        tried: Baseline first.
        chosen: the best method on validation images.
        chosen_by: how many validation images.
        on_test: the headline on test images with each seed, of Baseline and the chosen method.
        difference: winner - baseline, with its interval; None where the chosen method is Baseline.
        groups: how many groups, such as patients, the test images are of; None where they are of none.
        useless: whether the student to deploy is no better than always giving the commonest answer.
        own_code: whether the network or its task is a Python file of the user's.
        notes: paragraphs on images in two parts, useless students, failed runs and runs that are left.
        looks: those of the verdicts that were made in the same folder before.
    """

    folder: Path
    metric: MetricFormat
    counted: str
    images: int
    test_hash: str
    judged: str
    seeds: tuple[int, ...]
    tried: tuple[Tried, ...]
    chosen: str
    chosen_by: int
    on_test: Mapping[str, Sequence[float]]
    difference: ImageDifference | None = None
    groups: int | None = None
    useless: bool = False
    own_code: bool = False
    notes: Sequence[str] = ()
    looks: Sequence[Look] = ()

    @property
    def baseline(self) -> float:
        """Baseline's headline on test images, mean over the seeds."""
        return fmean(self.on_test[BASELINE])

    @property
    def winner(self) -> float | None:
        """The same of the chosen method; None where that is Baseline."""
        return None if self.chosen == BASELINE else fmean(self.on_test[self.chosen])

    @property
    def compared(self) -> bool:
        """Return whether any method beside Baseline came to its end."""
        return any(one.by_seed for one in self.tried if one.method != BASELINE)

    @property
    def helps(self) -> bool:
        """Return whether the chosen method is better than Baseline beyond chance."""
        return self.difference is not None and self.difference.low > 0

    @property
    def deployed(self) -> str:
        """The method whose student is to be deployed."""
        return self.chosen if self.helps else BASELINE

    @property
    def student(self) -> Path:
        """The folder of the student to deploy."""
        return self.folder / "student"

    @property
    def page(self) -> Path:
        """The page of the verdict."""
        return self.folder / "report.html"

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        count = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        of_groups = "" if self.groups is None else f" of {self.groups:,} group{'s' if self.groups > 1 else ''}"
        where = f"on {self.images:,} test {self.counted}{of_groups}, {count}"
        baseline = _percent(self.baseline)
        if self.useless:
            deployed = fmean(self.on_test[self.deployed])
            return (
                f"nothing to deploy: on validation images the student of {self.deployed} is no better than always "
                f"giving the commonest answer; it has {_percent(deployed)} {where}"
            )
        if not self.compared:
            return f"nothing was compared, for no method came to its end: {BASELINE} has {baseline} {where}"
        if self.winner is None or self.difference is None:
            return f"{NOTHING}, {baseline} {where}; no method did better on validation images"
        mean, low, high = (f"{100 * value:+.1f}" for value in self.difference)
        between = "" if isnan(self.difference.low) else f" [{low}, {high}]"
        change = f"{mean} points{between}"
        if self.helps:
            return f"your network: {baseline} -> {_percent(self.winner)}, {change} {where}, with {self.chosen}"
        return f"{NOTHING}, {baseline} {where}; {self.chosen} has {_percent(self.winner)}, {change}"

    @property
    def look(self) -> Look:
        """This one at the test images."""
        return Look(self.test_hash, self.headline, self.judged)

    @property
    def earlier(self) -> list[str]:
        """The headlines of earlier verdicts on the same test images, but for those of the same runs."""
        others = dict.fromkeys(look for look in self.looks if look.images == self.test_hash)
        return [look.headline for look in others if (look.runs or look.headline) not in (self.judged, self.headline)]

    @property
    def next(self) -> str:
        """The command to go on with."""
        return f"{predict_command(self.student, own_code=self.own_code)} ..."

    @property
    def lines(self) -> list[str]:
        """The verdict, what limits it, and what to do now."""
        page = [f"report: {self.page}"] if self.page.is_file() else []
        deployed = f"{'not worth deploying' if self.useless else 'deploy'}: {self.student / 'student.safetensors'}"
        further = [] if self.useless else [f"next: {self.next}"]
        return [self.headline, *self.limits, deployed, *page, *further]

    @property
    def limits(self) -> list[str]:
        """What is to be said with the verdict, a sentence each."""
        told = [IF_USELESS] if self.useless else []
        known = self.difference is not None and not isnan(self.difference.low)
        if known and len(self.seeds) == 1:
            over = self.counted if self.groups is None else "groups"
            told.append(f"the interval is over {over} alone: with one seed, how far others would differ is not known")
        elif known and len(self.seeds) == 2:
            told.append("the interval is too narrow: 2 seeds say little of others; --seeds 3 says more")
        if self.difference is not None and self.groups is not None and self.groups < FEW_GROUPS:
            told.append(
                "there is no interval: test images of one group say nothing of others"
                if self.groups == 1
                else f"the interval is too narrow: {self.groups} groups of test images say little of others"
            )
        if self.looks and self.looks[-1].images != self.test_hash:
            told.append(
                f"the test {self.counted} are not those of the last verdict here: where no folder test/ keeps them, "
                "they are drawn anew as soon as one is added or removed"
            )
        if self.earlier:
            times = "once" if len(self.earlier) == 1 else f"{len(self.earlier)} times"
            told.append(
                f"these test images were looked at {times} before, with other seeds, methods or settings "
                "('earlier' in verdict.json): the more looks, the likelier is a gain by luck. Other test images tell"
            )
        return told

    @property
    def trials(self) -> pd.DataFrame:
        """The trials, a line each."""
        return pd.DataFrame([one.plain() for one in self.tried])

    @property
    def table(self) -> str:
        """The trials as a table, in 80 columns."""
        rows = [("method", "validation", "cost", "runs", "")]
        for one in self.tried:
            value = "-" if one.validation is None else _percent(one.validation)
            cost = "-" if one.cost is None else f"{one.cost:.1f}x"
            said = "best on validation" if one.method == self.chosen else one.status.replace("done", "")
            rows.append((shortened(one.method, 34), value, cost, f"{one.finished}/{one.planned}", said.strip(", ")))
        lines = [
            f"{name:<34}{value:>12}{cost:>8}{runs:>7} {said:.18}".rstrip() for name, value, cost, runs, said in rows
        ]
        seeds = ", ".join(map(str, self.seeds))
        how = HOW.format(metric=self.metric.name, count=f"{self.chosen_by:,}", counted=self.counted, seeds=seeds)
        return "\n".join([*lines, *filled(how, indent="")])

    def __str__(self) -> str:
        verdict = "\n".join(part for line in self.lines for part in filled(line))
        return "\n\n".join([verdict, self.table, *self.notes])

    def plain(self) -> dict[str, Any]:
        """Return it as ``verdict.json`` holds it."""
        return {
            "text": str(self),
            "lines": [self.headline, *self.limits],
            "next": self.next,
            "helps": self.helps,
            "useless": self.useless,
            "chosen": self.chosen,
            "chosen_by": self.chosen_by,
            "deployed": self.deployed,
            "metric": self.metric.name,
            "baseline": self.baseline,
            "winner": self.winner,
            "difference": None if self.difference is None else _numbers(self.difference),
            "images": self.images,
            "groups": self.groups,
            "seeds": list(self.seeds),
            "tried": [one.plain() for one in self.tried],
            "on_test": {row: list(scores) for row, scores in self.on_test.items()},
            "notes": list(self.notes),
            "earlier": self.earlier,
            "looks": [look._asdict() for look in dict.fromkeys([*self.looks, self.look])],
        }

    def write(self) -> None:
        """Write verdict.json into both folders, and verdict.md."""
        content = json.dumps(self.plain(), indent=2, ensure_ascii=False)
        points = "\n".join(f"- {line}" for line in self.lines[1:])
        page = "\n\n".join([f"# {self.headline}", points, f"```\n{self.table}\n```", *self.notes])
        files = {self.student / "verdict.json": content, self.folder / "verdict.json": content}
        for path, text in {**files, self.folder / "verdict.md": f"{page}\n"}.items():
            write_text(path, text)


NOTHING = "nothing helped beyond chance: deploy the plain network"
HOW = (
    "Validation: {metric} on {count} {counted}, mean over the seeds that every method has finished ({seeds}). Cost: "
    "training time, 1 being Baseline's. The choice was made on validation images; of the others the test images were "
    "not looked at."
)
IF_USELESS = (
    "try a lower --train.lr, more --train.epochs or published weights (--train.pretrained true), and look with "
    "`classmates data` whether the folders are the classes"
)


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} %"


def _numbers(difference: ImageDifference) -> dict[str, float | None]:
    """Return a difference as JSON holds it, which has no NaN."""
    return {name: None if isnan(value) else value for name, value in difference._asdict().items()}
