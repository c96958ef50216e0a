"""The plan of a comparison or a search: its runs, their state, and the time that is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from classmates._shown import Shown
from classmates._text import filled
from classmates.comparisons.differences import setting_differences, value_text
from classmates.experiments.budget import place
from classmates.experiments.identity import settings_that_matter, train_defaults
from classmates.experiments.ledger import Ledger
from classmates.experiments.pace import seconds_per_epoch, training_left
from classmates.experiments.plan import Job
from classmates.experiments.records import state_of
from classmates.reporting.page import duration, flat
from classmates.runs.plain_values import plain_value


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """The runs that are wanted; as text a line for each row, model and data set, and what they are trained with.

    folder: where they are or would be. jobs: every run. ledger: what is there already. note: what else is to be said.
    by_row: whether to write the settings of each row, which the name of a trial has in it.
    """

    folder: Path
    jobs: Sequence[Job]
    ledger: Ledger
    note: str = ""
    by_row: bool = True

    @property
    def headline(self) -> str:
        return self._rest()

    def __str__(self) -> str:
        states = pd.DataFrame([state_of(self.ledger, job, self.ledger.status(job)) for job in self.jobs])
        table = self._table(states).to_string(index=False)
        last = ("\n".join(filled(text, indent="")) for text in (self._rest(), self.note))
        parts = [table, *failures(states), self._settings(), *last]
        return "\n\n".join(part for part in parts if part)

    def _table(self, states: pd.DataFrame) -> pd.DataFrame:
        """Tell how the runs of each row, model and data set stand, and what one of them takes."""
        known = seconds_per_epoch(self.ledger, self.jobs)
        jobs: dict[tuple[str, str, str], list[int]] = {}
        for number, job in enumerate(self.jobs):
            jobs.setdefault(place(job), []).append(number)
        lines = []
        for where, numbers in jobs.items():
            counts = Counter(states["status"].iloc[numbers])
            epochs = self.jobs[numbers[0]].epochs
            lines.append(
                dict(zip(("row", "model", "data"), where, strict=True))
                | {"seeds": len(numbers), "epochs": epochs}
                | {"state": ", ".join(f"{count} {state}" for state, count in counts.items())}
                | {"a run takes": f"about {duration(known[where] * epochs)}" if where in known else "unknown"}
            )
        return pd.DataFrame(lines)

    def _settings(self) -> str:
        """Write the settings that are not defaults: once those of all runs, and by row what differs."""
        defaults = {name: value_text(value) for name, value in flat(plain_value(train_defaults())).items()}
        equal, different = setting_differences((job.row, settings_that_matter(job.settings)) for job in self.jobs)
        lines = []
        for label, settings in {"all runs": equal, **(different if self.by_row else {})}.items():
            said = [f"{name} {text}" for name, text in settings.items() if text not in (defaults.get(name), "–")]
            lines += filled(f"{label}: {', '.join(said) or 'defaults'}")
        return "\n".join(lines)

    def _rest(self) -> str:
        """Tell how much is left to do."""
        left = [job for job in self.jobs if self.ledger.result(job) is None]
        begun = f"{len(left)} of {len(self.jobs)} runs to do in {self.folder}"
        seconds, unknown = training_left(self.ledger, self.jobs)
        if not left:
            return f"All {len(self.jobs)} runs are done, in {self.folder}."
        if unknown == len(left):
            return f"{begun}; what they take is known once one of them has trained an epoch."
        known = seconds_per_epoch(self.ledger, self.jobs)
        untrained = sum(place(job) not in known for job in left)
        guessed = ", where unknown by the cost of their methods" if untrained > unknown else ""
        more = f", and {unknown} run{'s' if unknown > 1 else ''} of which nothing is known yet" if unknown else ""
        return f"{begun}: about {duration(seconds)} of training, one after the other{guessed}{more}."


def failures(runs: pd.DataFrame) -> list[str]:
    """Write which of the runs (lines of ``read_runs``) failed and why: a paragraph, or none."""
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        return []
    lines = [
        f"  {run['row']}, {run['model']}, {run['data']}, seed {run['seed']}: {run['failure']}"
        for run in failed.to_dict("records")
    ]
    return ["\n".join([f"{len(failed)} of {len(runs)} runs failed; the same command tries them again:", *lines])]
